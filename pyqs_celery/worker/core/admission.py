"""What to do with a message once its head is read and before any child sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pyqs_celery.broker.delivery import Delivery
from pyqs_celery.wire.message import Head
from pyqs_celery.worker.core.deferral import Plan, plan
from pyqs_celery.worker.core.values import QueuePolicy, TaskPolicy


@dataclass(frozen=True, slots=True)
class Admission:
    """``run`` it, ``wait`` as planned, let it ``expire``, or leave it as ``unknown``."""

    kind: Literal["run", "wait", "expire", "unknown"]
    plan: Plan | None = None


RUN = Admission("run")
EXPIRE = Admission("expire")
UNKNOWN = Admission("unknown")


def admit(
    head: Head, policy: TaskPolicy, queue: QueuePolicy, delivery: Delivery, now: float, hold_horizon: float
) -> Admission:
    """Decide by the head alone. A sealed head goes to a child, which opens it and decides again."""
    if not head.sealed and not policy.known and not policy.importable:
        return UNKNOWN
    if head.expires is not None and head.expires <= now:
        return EXPIRE
    if head.eta is None:
        return RUN
    waiting = plan(
        head.eta,
        now,
        fifo=queue.fifo,
        receive_count=delivery.receive_count,
        max_receive_count=queue.max_receive_count,
        hold_horizon=hold_horizon,
    )
    return RUN if waiting is None else Admission("wait", waiting)
