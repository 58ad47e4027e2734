"""What a retry takes along of the message it repeats, and how the end of all retries is told."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pyqs_celery.app.request import Context
from pyqs_celery.utils.times import to_epoch


def is_native(task: Any, conf: Any, sqs: Mapping[str, Any] | None) -> bool:
    """True if a retry is the same message coming back, not a new one: ``sqs_retry`` of the task or the settings.

    If neither says anything, retries on FIFO queues are native, since a new message would go behind all others of its group.
    """
    said = task.sqs_retry or conf.sqs_retry
    return bool(said == "native" or (not said and str((sqs or {}).get("queue", "")).endswith(".fifo")))


def earlier_tries(sqs: Mapping[str, Any]) -> int:
    """How often this very message was tried before: its receipts, but those after which it is known to have gone back unrun."""
    return max(0, int(sqs.get("receive_count") or 1) - int(sqs.get("unrun_count") or 0) - 1)


def is_last_receipt(sqs: Mapping[str, Any] | None) -> bool:
    """True if SQS moves the message to the dead-letter queue instead of delivering it once more."""
    most = (sqs or {}).get("max_receive_count")
    return bool(most and int((sqs or {}).get("receive_count") or 1) >= int(most))


class Exhausted:
    """Marks an exception as the end of a task's own retries."""

    ATTRIBUTE = "_pyqs_celery_exhausted"

    @classmethod
    def mark(cls, exc: BaseException) -> BaseException:
        """Mark an exception, and give it back."""
        # an exception with slots takes no mark: it counts as an ordinary failure, and is delivered again
        with suppress(AttributeError):
            setattr(exc, cls.ATTRIBUTE, True)
        return exc


def is_exhausted(exc: BaseException) -> bool:
    """True if a task raised this because its retries were used up."""
    return bool(getattr(exc, Exhausted.ATTRIBUTE, False))


def retry_options(request: Context) -> dict[str, Any]:
    """The options with which a request is sent again: everything but the arguments and the time."""
    info = request.delivery_info or {}
    limits = list(request.timelimit or (None, None))
    properties = request.properties or {}
    sqs = request.sqs or {}
    found = {
        "task_id": request.id,
        "link": request.callbacks,
        "link_error": request.errbacks,
        "group_id": request.group,
        "group_index": request.group_index,
        "chain": request.chain,
        "chord": request.chord,
        "root_id": request.root_id,
        "parent_id": request.id,
        "shadow": request.shadow,
        "reply_to": request.reply_to,
        "expires": request.expires,
        "time_limit": limits[0],
        "soft_time_limit": limits[1],
        "headers": request.headers,
        "ignore_result": request.ignore_result,
        "stamped_headers": request.stamped_headers,
        "replaced_task_nesting": request.replaced_task_nesting or None,
        "queue": info.get("routing_key"),
        "priority": info.get("priority"),
        "origin": request.origin,
        "MessageGroupId": sqs.get("group_id") or properties.get("MessageGroupId"),
        "message_attributes": sqs.get("message_attributes") or None,
        **{header: (request.stamps or {}).get(header) for header in request.stamped_headers or ()},
    }
    return {key: value for key, value in found.items() if value is not None}


def seconds_until(eta: Any, countdown: Any) -> float:
    """How far ahead an eta or a countdown (seconds or timedelta) is; 0 for the past."""
    if eta is not None:
        at = to_epoch(eta)
        return max(0.0, (at or 0.0) - time.time())
    return float(countdown.total_seconds() if hasattr(countdown, "total_seconds") else countdown or 0)
