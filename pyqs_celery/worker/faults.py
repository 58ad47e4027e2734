"""The exceptions that stand for a task's end outside of a child, in Celery's words."""

from __future__ import annotations

from pyqs_celery.exceptions import TaskRevokedError, Terminated, TimeLimitExceeded, WorkerLostError
from pyqs_celery.worker.core.values import Fault


def exception_of(fault: Fault, shown: str) -> Exception:
    """What is recorded; ``shown`` is the task as log lines name it."""
    if fault.exception == "TimeLimitExceeded":
        return TimeLimitExceeded(float(fault.detail))
    if fault.exception == "Terminated":
        return Terminated(int(fault.detail))
    if fault.exception == "TaskRevokedError":
        return TaskRevokedError(fault.detail)
    return WorkerLostError(f"Worker exited prematurely: {fault.detail} Task: {shown}.")
