"""When a lease must be renewed, for how long, and when it is too late.

A lease is renewed when a third of it has passed. Ten deliveries of a queue share one request, so deliveries that come
due soon are taken along. Twelve hours after its first receipt SQS ends a lease for good (AWS:
ChangeMessageVisibility).
"""

from __future__ import annotations

from collections.abc import Iterable

from pyqs_celery.broker.limits import BATCH_ENTRIES
from pyqs_celery.worker.core.held import Held
from pyqs_celery.worker.core.values import Extend

RENEW_AT = 1 / 3
RETRY_AT = 1 / 6
LAST_TRY_SECONDS = 1.0
MARGIN = 0.05
"""The last part of a lease in which nothing is started any more, since the answer may be late."""


def renew_at(held: Held) -> float:
    """When a freshly confirmed lease is due."""
    lease = held.queue.lease_seconds
    return held.lease_until - lease * (1 - RENEW_AT)


def retry_at(held: Held, now: float) -> float:
    """When to try again after a renewal that failed for want of an answer: while there is time, before the end."""
    rest = held.lease_until - now
    return now + min(held.queue.lease_seconds * RETRY_AT, rest / 2 if rest > LAST_TRY_SECONDS else rest)


def is_safe(held: Held, now: float) -> bool:
    """True if the lease surely holds a moment longer."""
    return not held.lease_lost and now < held.lease_until - held.queue.lease_seconds * MARGIN


def is_over(held: Held, now: float) -> bool:
    """True if the lease has run out by our own clock."""
    return now >= held.lease_until


def due_soon(held: Held, now: float) -> bool:
    """True if a renewal may as well take this one along."""
    return renew_at(held) <= now + held.queue.lease_seconds * RETRY_AT


def extensions(due: Iterable[Held]) -> list[Extend]:
    """Group deliveries by queue into requests of at most ten."""
    by_queue: dict[str, list[Held]] = {}
    for held in due:
        by_queue.setdefault(held.queue.name, []).append(held)
    made = []
    for queue, group in by_queue.items():
        for start in range(0, len(group), BATCH_ENTRIES):
            part = group[start : start + BATCH_ENTRIES]
            made.append(
                Extend(
                    queue,
                    int(max(1, part[0].queue.lease_seconds)),
                    tuple(h.tag for h in part),
                    tuple(h.delivery for h in part),
                )
            )
    return made
