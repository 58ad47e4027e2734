"""What a running task knows of its message: ``self.request``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyqs_celery.wire.message import TaskMessage

_DEFAULTS: dict[str, Any] = {
    "id": None,
    "task": None,
    "args": None,
    "kwargs": None,
    "retries": 0,
    "eta": None,
    "expires": None,
    "is_eager": False,
    "headers": None,
    "properties": None,
    "delivery_info": None,
    "reply_to": None,
    "correlation_id": None,
    "root_id": None,
    "parent_id": None,
    "group": None,
    "group_index": None,
    "chord": None,
    "chain": None,
    "callbacks": None,
    "errbacks": None,
    "timelimit": None,
    "hostname": None,
    "origin": None,
    "lang": None,
    "shadow": None,
    "utc": True,
    "called_directly": True,
    "logfile": None,
    "loglevel": None,
    "taskset": None,
    "argsrepr": None,
    "kwargsrepr": None,
    "ignore_result": None,
    "stamped_headers": None,
    "stamps": None,
    "replaced_task_nesting": 0,
    "_protected": 0,
    "sqs": None,
}


class Context:
    """An attribute bag: headers, properties and delivery facts of the message being run.

    Any name may be read with ``get(name, default)``; names known to Celery have defaults, every custom header is an
    attribute, and ``sqs`` holds SQS's own facts: message_id, receive_count, sent_at, first_received_at, group_id,
    attributes, queue. https://docs.celeryq.dev/en/stable/userguide/tasks.html#task-request-info
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.update(*args, **kwargs)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set attributes from a mapping and keywords."""
        self.__dict__.update(*args, **kwargs)

    def clear(self) -> None:
        """Forget everything that was set."""
        self.__dict__.clear()

    def get(self, key: str, default: Any = None) -> Any:
        """An attribute, or ``default``."""
        return getattr(self, key, default)

    def __setattr__(self, key: str, value: Any) -> None:
        self.__dict__[key] = value

    def __getattr__(self, key: str) -> Any:
        try:
            return _DEFAULTS[key]
        except KeyError:
            raise AttributeError(f"the request has no {key!r}") from None

    def __repr__(self) -> str:
        return f"<Context: {self.__dict__!r}>"

    @property
    def children(self) -> list[Any]:
        """Results of the tasks this one has sent."""
        found: list[Any] = self.__dict__.setdefault("_children", [])
        return found


_NEVER_FROM_OUTSIDE = frozenset({"is_eager", "called_directly", "logfile", "loglevel", *vars(Context)})


def _is_ours(name: Any) -> bool:
    """True for what the worker itself says of a run, and for the methods of a request: no header stands for them."""
    return not isinstance(name, str) or name.startswith("_") or name in _NEVER_FROM_OUTSIDE


def from_message(message: TaskMessage, *, sqs: Mapping[str, Any], hostname: str) -> Context:
    """The request of a message that was received."""
    custom = {name: value for name, value in message.headers.items() if not _is_ours(name)}
    nested = custom.get("headers")
    shown = {**custom, **nested} if isinstance(nested, dict) else custom
    info = dict(message.delivery_info)
    info.setdefault("exchange", "")
    info.setdefault("routing_key", sqs.get("logical"))
    info["priority"] = message.priority
    info["redelivered"] = int(sqs.get("receive_count") or 1) > 1
    facts = {
        "id": message.id or sqs.get("message_id"),
        "task": message.task,
        "args": message.args,
        "kwargs": message.kwargs,
        "retries": message.retries,
        "eta": message.eta,
        "expires": message.expires,
        "properties": {**message.properties, "delivery_info": info},
        "delivery_info": info,
        "reply_to": message.reply_to,
        "correlation_id": message.correlation_id or message.id,
        "root_id": message.root_id or message.id,
        "parent_id": message.parent_id,
        "group": message.group,
        "group_index": message.group_index,
        "chord": message.chord,
        "chain": message.chain,
        "callbacks": message.callbacks,
        "errbacks": message.errbacks,
        "timelimit": list(message.timelimit),
        "hostname": hostname,
        "origin": message.origin,
        "lang": message.lang,
        "shadow": message.shadow,
        "utc": True if message.utc is None else message.utc,
        "called_directly": False,
        "argsrepr": message.argsrepr,
        "kwargsrepr": message.kwargsrepr,
        "ignore_result": message.ignore_result,
        "stamped_headers": message.stamped_headers,
        "stamps": message.stamps,
        "replaced_task_nesting": message.replaced_task_nesting or 0,
        "sqs": dict(sqs),
    }
    request = Context(custom)
    request.update(facts)
    request.headers = shown or None
    return request
