"""What to do with a message that arrived before its ETA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pyqs_celery.broker.limits import MAX_DELAY_SECONDS, MAX_VISIBILITY_SECONDS


@dataclass(frozen=True, slots=True)
class Plan:
    """``hold`` it under its lease, ``hop`` a delayed copy, or ``park`` it by visibility."""

    kind: Literal["hold", "hop", "park"]
    delay_seconds: int = 0


def plan(
    eta: float, now: float, *, fifo: bool, receive_count: int, max_receive_count: int | None, hold_horizon: float
) -> Plan | None:
    """Say how to wait for ``eta``; None if it is due.

    A standard queue hops: a copy with ``DelaySeconds``, which costs a send and a delete and nothing while it
    waits. FIFO queues take no delay per message, so there the message is parked by visibility if its redrive
    limit leaves room for another receipt, and otherwise held. The last moments are always held, which is what makes a
    task start on time rather than a whole second early.
    """
    rest = eta - now
    if rest <= 0:
        return None
    if rest <= hold_horizon:
        return Plan("hold")
    if not fifo:
        return Plan("hop", min(MAX_DELAY_SECONDS, int(rest)))
    if max_receive_count is None or receive_count + 2 <= max_receive_count:
        return Plan("park", min(MAX_VISIBILITY_SECONDS, int(rest)))
    return Plan("hold")
