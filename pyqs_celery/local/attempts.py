"""ReceiveRequestAttemptId: a FIFO receive whose answer was lost may be asked again (AWS: ReceiveMessage)."""

from __future__ import annotations

from pyqs_celery.local.errors import invalid
from pyqs_celery.local.messages import DEDUP_SECONDS, Message, Queue


def answer_again(queue: Queue, attempt: str, now: float) -> list[Message]:
    """The messages this attempt was answered with; none if it is new. Raises ApiError if they have changed since."""
    while queue.attempts and next(iter(queue.attempts.values()))[0] <= now - DEDUP_SECONDS:
        queue.attempts.popitem(last=False)
    _, answered = queue.attempts.get(attempt, (now, []))
    if any(message.state != "inflight" or message.receipt != receipt for message, receipt in answered):
        raise invalid(
            f"Value {attempt} for parameter ReceiveRequestAttemptId is invalid. Reason: The receiveRequestAttemptId is not "
            "valid anymore since the receive call is not retryable."
        )
    return [message for message, _ in answered]


def remember_answer(queue: Queue, attempt: str, messages: list[Message], now: float) -> None:
    """Keep what an attempt was answered with."""
    if messages:
        queue.attempts[attempt] = (now, [(message, message.receipt or "") for message in messages])


def forget_answers(queue: Queue, message: Message) -> None:
    """A message's visibility was changed: the attempts that brought it cannot be made again."""
    for attempt, (at, answered) in queue.attempts.items():
        if any(each is message for each, _ in answered):
            queue.attempts[attempt] = (at, [(each, "") for each, _ in answered])
