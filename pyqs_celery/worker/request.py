"""``celery.worker.request.Request``: a delivery as receivers of signals and a task's ``Request`` class see it.

Made in the consumer from the head alone, so its arguments are not known: ``args`` and ``kwargs`` are None, ``argsrepr``
and ``kwargsrepr`` are what the sender wrote. A task's own subclass (``Task.Request``) has these hooks called:
``on_accepted``, ``on_timeout(soft, timeout)`` and ``on_failure(exc_info, send_failed_event, return_ok)``.
"""

from __future__ import annotations

import logging
from typing import Any

from pyqs_celery.broker.delivery import Delivery, QueueInfo
from pyqs_celery.utils.imports import symbol_by_name
from pyqs_celery.wire.envelope import described
from pyqs_celery.wire.message import Head

logger = logging.getLogger("celery.worker.request")


class Request:
    """One delivery.

    Attributes: id, name, task, eta and expires (epoch seconds), group, root_id, parent_id, argsrepr, kwargsrepr,
    delivery_info, hostname, message, and ``sqs`` with message_id, queue and receive_count.
    """

    args: Any = None
    kwargs: Any = None
    worker_pid: int | None = None
    time_start: float | None = None

    def __init__(
        self,
        message: Delivery,
        *,
        head: Head,
        app: Any = None,
        task: Any = None,
        hostname: str | None = None,
        **kwargs: Any,
    ) -> None:
        headers = head.raw_headers
        self.message = message
        self.app = app
        self.hostname = hostname
        self.id = self.task_id = head.id or message.message_id
        self.name = self.task_name = self.type = head.task
        self.task = task if task is not None else head.task
        self.eta, self.expires, self.group = head.eta, head.expires, head.group
        self.argsrepr, self.kwargsrepr = described(headers.get("argsrepr")), described(headers.get("kwargsrepr"))
        self.root_id, self.parent_id = described(headers.get("root_id")), described(headers.get("parent_id"))
        info = head.properties.get("delivery_info")
        self.delivery_info = info if isinstance(info, dict) else {}
        self.request_dict = self._request_dict = dict(headers)
        self.sqs = {
            "message_id": message.message_id,
            "queue": message.queue,
            "receive_count": message.receive_count,
        }

    @property
    def humaninfo(self) -> str:
        """``name[id]``."""
        return f"{self.name}[{self.id}]"

    def info(self, safe: bool = False) -> dict[str, Any]:
        """The facts as a dictionary."""
        hidden = {"request_dict", "_request_dict", "message", "app", "task"}
        return {key: value for key, value in vars(self).items() if key not in hidden}

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """A time limit (seconds) was exceeded: ``soft`` as the child has told, else its process is killed."""

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        """The task failed in a way its child could not tell: it was killed, or its process died."""

    def on_success(self, failed__retval__runtime: Any, **kwargs: Any) -> None:
        """Not called here: the child tells of success."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.name}[{self.id}]>"


def sqs_facts(delivery: Delivery, queue: QueueInfo) -> dict[str, Any]:
    """What SQS said of a delivery, in plain builtins: ``request.sqs``, and what PyQS's hooks are told."""
    return {
        "message_id": delivery.message_id,
        "receive_count": delivery.receive_count,
        "sent_at": delivery.sent_at,
        "first_received_at": delivery.first_received_at,
        "group_id": delivery.group_id,
        "deduplication_id": delivery.deduplication_id,
        "attributes": dict(delivery.attributes),
        "message_attributes": {name: dict(value) for name, value in delivery.message_attributes.items()},
        "queue": delivery.queue,
        "logical": queue.logical,
        "queue_url": queue.url,
        "receipt_handle": delivery.receipt_handle,
        "fetch_time": delivery.received_at,
        "timeout": queue.visibility_timeout_seconds,
        "unrun_count": delivery.unrun_count,
        "max_receive_count": queue.redrive.max_receive_count if queue.redrive is not None else None,
    }


def request_class(task: Any) -> type[Request]:
    """The class a task asks for; ours if it asks for none, or for one that cannot be had."""
    wanted = getattr(task, "Request", None)
    if wanted in (None, "celery.worker.request:Request"):
        return Request
    try:
        found: type[Request] = symbol_by_name(wanted)
    except (ImportError, AttributeError):
        logger.exception("Task %s: its Request class %r cannot be imported", task.name, wanted)
        return Request
    return found
