"""What becomes of a message after its run: deleted, given back for a while, or moved to a dead-letter queue."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pyqs_celery.broker.delivery import Delivery
from pyqs_celery.broker.limits import MAX_VISIBILITY_SECONDS
from pyqs_celery.outcome import Outcome
from pyqs_celery.worker.core.values import QueuePolicy, TaskPolicy

UNKNOWN_FIRST_SECONDS = 5
UNKNOWN_MOST_SECONDS = 300
LOST_MOST_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Verdict:
    """``ack`` deletes, ``release`` gives back after ``delay_seconds``, ``dead_letter`` moves.

    For a move, ``delay_seconds`` is how long the message is hidden if the move is refused.
    """

    kind: Literal["ack", "release", "dead_letter"]
    delay_seconds: int = 0
    reason: str = ""
    exception: str | None = None


ACK = Verdict("ack")


def is_last_delivery(queue: QueuePolicy, delivery: Delivery) -> bool:
    """True if a failure of this delivery is final: SQS's redrive or our own limit takes it next."""
    if queue.max_receive_count:
        return delivery.receive_count >= queue.max_receive_count
    return delivery.tries >= queue.max_deliveries


def failure_delay(queue: QueuePolicy, delivery: Delivery, task: str | None) -> int:
    """How long a failed message stays hidden: the queue's backoff policy, else its visibility timeout.

    With neither redrive nor a dead-letter queue it doubles after ``max_deliveries`` up to 12 hours.
    """
    delay = queue.visibility_timeout_seconds
    if queue.backoff and (not queue.backoff_tasks or task in queue.backoff_tasks):
        known = [count for count in queue.backoff if count <= delivery.receive_count]
        delay = queue.backoff[max(known)] if known else queue.backoff[min(queue.backoff)]
    if queue.max_receive_count is None and queue.dead_letter_queue is None:
        beyond = max(0, delivery.tries - queue.max_deliveries + 1)
        delay = max(delay, 1) * 2 ** min(beyond, 16)
    return min(MAX_VISIBILITY_SECONDS, int(delay))


def unknown_delay(delivery: Delivery) -> int:
    """5, 10, 20 ... 300 seconds: time for a newer worker to take the message during a deploy."""
    return int(min(UNKNOWN_MOST_SECONDS, UNKNOWN_FIRST_SECONDS * 2 ** min(delivery.receive_count - 1, 10)))


def after_failure(
    queue: QueuePolicy, delivery: Delivery, *, task: str | None, reason: str, exception: str | None, final: bool
) -> Verdict:
    """A failed run. ``final``: the task itself gave up, so it goes to the dead-letter queue at once."""
    delay = failure_delay(queue, delivery, task)
    ours = queue.max_receive_count is None and delivery.tries >= queue.max_deliveries
    if queue.dead_letter_queue is not None and (final or ours):
        return Verdict("dead_letter", delay, reason, exception)
    return Verdict("release", delay, reason, exception)


def after_undecodable(queue: QueuePolicy, delivery: Delivery, reason: str) -> Verdict:
    """A message nobody can ever run: moved at once, else hidden for ever longer."""
    if queue.dead_letter_queue is not None:
        return Verdict("dead_letter", int(queue.visibility_timeout_seconds), reason)
    delay = max(1, int(queue.visibility_timeout_seconds)) * 2 ** min(delivery.receive_count - 1, 16)
    return Verdict("release", min(MAX_VISIBILITY_SECONDS, delay), reason)


def deletes_failure(policy: TaskPolicy, *, timed_out: bool) -> bool:
    """True if a failed run does not bring the message back, since it was deleted before or is deleted now."""
    return not policy.acks_late or (policy.ack_on_timeout if timed_out else policy.ack_on_failure)


def is_final_failure(policy: TaskPolicy, *, last_delivery: bool, timed_out: bool) -> bool:
    """True if a failure now would be the last word on the task: its errbacks are called, its chord fails."""
    return last_delivery or deletes_failure(policy, timed_out=timed_out)


def after_loss(queue: QueuePolicy, delivery: Delivery, policy: TaskPolicy, reason: str) -> Verdict:
    """The child died. The message comes back soon at first, then ever later, and at the limit as a failure."""
    if not policy.reject_on_worker_lost:
        return ACK
    if is_last_delivery(queue, delivery):
        return after_failure(queue, delivery, task=None, reason=reason, exception="WorkerLostError", final=False)
    return Verdict("release", int(min(LOST_MOST_SECONDS, 2 ** min(delivery.receive_count - 1, 10))), reason)


def after_outcome(
    queue: QueuePolicy, delivery: Delivery, policy: TaskPolicy, outcome: Outcome, reject_delay: float
) -> Verdict:
    """Turn what the child reported into what happens to the message (DESIGN decisions 1, 2 and 11)."""
    if outcome.kind == "retried" and outcome.native_delay is not None:
        return Verdict("release", min(MAX_VISIBILITY_SECONDS, math.ceil(outcome.native_delay)), outcome.reason)
    acked_failure = outcome.kind == "failed" and deletes_failure(policy, timed_out=outcome.timed_out)
    if acked_failure or outcome.kind in ("succeeded", "retried", "ignored", "expired", "revoked"):
        return ACK
    if outcome.kind in ("unknown", "unsupported"):
        return Verdict("release", unknown_delay(delivery), outcome.reason)
    if outcome.kind == "undecodable":
        return after_undecodable(queue, delivery, outcome.reason)
    if outcome.kind == "rejected" and outcome.requeue:
        return Verdict("release", int(reject_delay), outcome.reason)
    final = outcome.exhausted or outcome.kind == "rejected"
    return after_failure(
        queue, delivery, task=outcome.task, reason=outcome.reason, exception=outcome.exception, final=final
    )
