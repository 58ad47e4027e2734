"""What the death of a child means for what it ran: what is told, what becomes of the message, and what is recorded."""

from __future__ import annotations

from dataclasses import dataclass

from pyqs_celery.outcome import Outcome
from pyqs_celery.worker.core.disposition import ACK, Verdict, after_loss, after_outcome, is_last_delivery
from pyqs_celery.worker.core.held import Held
from pyqs_celery.worker.core.values import Fault, TaskPolicy


@dataclass(frozen=True, slots=True)
class Loss:
    """``event``, ``detail`` and ``outcome`` make the note; ``fault`` is set if the failure is final, so that it is recorded."""

    event: str
    detail: str
    verdict: Verdict
    fault: Fault | None = None
    outcome: Outcome | None = None


def loss_of(held: Held, policy: TaskPolicy, reason: str, reject_delay: float) -> Loss:
    """Judge the death of the child that ran ``held``; ``reason`` is what the manager says of it."""
    if held.killed_for == "shutdown":
        return Loss("lost", reason, Verdict("release", 0))
    if held.killed_for == "revoked":
        signum = str(held.kill_signum)
        return Loss("terminated", signum, ACK, Fault("Terminated", signum))
    if held.killed_for == "hard time limit":
        return _timed_out(held, policy, reject_delay)
    verdict = after_loss(held.queue, held.delivery, policy, reason)
    return Loss("lost", reason, verdict, Fault("WorkerLostError", reason) if _is_final(held, verdict) else None)


def _timed_out(held: Held, policy: TaskPolicy, reject_delay: float) -> Loss:
    limit = f"{held.hard_limit:g}"
    outcome = Outcome(
        "failed",
        task=held.head.task if held.head else None,
        task_id=held.head.id if held.head else None,
        reason=f"TimeLimitExceeded({limit},)",
        exception="TimeLimitExceeded",
        timed_out=True,
    )
    verdict = after_outcome(held.queue, held.delivery, policy, outcome, reject_delay)
    fault = Fault("TimeLimitExceeded", limit) if _is_final(held, verdict) else None
    return Loss("failed", outcome.reason, verdict, fault, outcome)


def _is_final(held: Held, verdict: Verdict) -> bool:
    """True if no worker will run it again."""
    return held.acked_early or verdict.kind != "release" or is_last_delivery(held.queue, held.delivery)
