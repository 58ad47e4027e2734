"""The SQS group and the deduplication id that a message gets.

On FIFO queues a group is what runs in order, on standard queues it is whose turn is shared fairly (AWS: FIFO queue
delivery logic, Amazon SQS fair queues).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery

HEADER = "header:"
_LEGAL = re.compile(r"[\x21-\x7e]{1,128}")
"""What SQS takes as a deduplication id: up to 128 letters, digits and punctuation marks (AWS: SendMessage)."""


def message_group(
    app: Celery,
    name: str,
    args: Any,
    kwargs: Any,
    options: Mapping[str, Any],
    properties: Mapping[str, Any],
    headers: Mapping[str, Any],
) -> str | None:
    """The group of one call: its ``MessageGroupId``, else ``message_group_id`` of the call, the task or the application.

    ``message_group_id`` is the group itself, ``header:`` and the name of a message header that holds it, or a function of
    (task name, args, kwargs, options). None: no group, which on a FIFO queue is the group ``default``, as kombu has it.
    """
    given = properties.get("MessageGroupId")
    if given is None:
        given = options.get("message_group_id")
        given = app.conf.sqs_message_group_id if given is None else given
        if callable(given):
            given = given(name, args or (), kwargs or {}, dict(options))
        elif isinstance(given, str) and given.startswith(HEADER):
            given = headers.get(given.removeprefix(HEADER))
    return None if given is None or given == "" else str(given)


def deduplication_id(task_id: str, headers: Mapping[str, Any]) -> str:
    """The task's id, so that the same call sent again within five minutes is dropped by a FIFO queue.

    A retry and a replacement have the id of the task they follow and are messages of their own all the same; the same
    one sent twice is still one.
    """
    retries, replaced = headers.get("retries") or 0, headers.get("replaced_task_nesting") or 0
    found = task_id if not retries and not replaced else f"{task_id}/{retries}/{replaced}"
    return found if _LEGAL.fullmatch(found) else hashlib.sha256(found.encode()).hexdigest()
