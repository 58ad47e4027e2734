"""One publish, from the options of a call to a message on a queue: the only place where tasks are sent."""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
import warnings
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from pyqs_celery import exceptions, signals
from pyqs_celery.app.grouping import deduplication_id, message_group
from pyqs_celery.app.routes import find_route
from pyqs_celery.broker.delivery import Outgoing
from pyqs_celery.broker.limits import MAX_DELAY_SECONDS
from pyqs_celery.exceptions import CeleryWarning
from pyqs_celery.utils import ids
from pyqs_celery.utils.times import parse_iso, to_epoch
from pyqs_celery.wire.call import TaskCall
from pyqs_celery.wire.encode import build_parts, encode

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery

_IDENTITY = threading.local()
_NOT_SENT = frozenset(
    "producer connection router result_cls publisher add_to_parent route_name task_type retry retry_policy mandatory "
    "immediate loglevel logfile declare chord_size ignore_result".split()
)
_CALL_FIELDS = frozenset(
    "countdown eta task_id expires link link_error group_id group_index retries chord reply_to time_limit soft_time_limit "
    "root_id parent_id shadow chain replaced_task_nesting queue exchange routing_key serializer compression priority headers "
    "delivery_mode stamped_headers argsrepr kwargsrepr exchange_type origin message_attributes message_group_id".split()
)
_FIELD_OF = {
    "group_id": "group",
    **{
        key: key
        for key in "retries group_index chain chord root_id parent_id shadow ignore_result replaced_task_nesting "
        "stamped_headers argsrepr kwargsrepr".split()
    },
}
"""Options that go into a call as they are, and what they are called there."""
_TIMES = frozenset({"eta", "countdown", "expires"})
_NO_PROPERTIES = _CALL_FIELDS | _NOT_SENT


def publish(app: Celery, name: str, args: Any, kwargs: Any, options: dict[str, Any], task: Any = None) -> str:
    """Send one task call and give its id.

    Raises kombu's EncodeError for arguments no serializer takes (nothing is sent), TypeError or ValueError for
    options that make no sense, and OperationalErrors of the broker.
    """
    options = route(app, name, args, kwargs, options, task)
    queue, exchange, routing_key = destination(app, options)
    task_id = options.get("task_id") or ids.uuid()
    call = _task_call(app, name, args, kwargs, options, task_id, exchange, routing_key)
    protocol = app.conf.task_protocol
    parts = build_parts(call, protocol=1 if protocol == 1 else 2)
    headers, properties, body = parts
    if signals.before_task_publish.receivers:
        signals.before_task_publish.send(
            sender=name,
            body=body,
            exchange=exchange,
            routing_key=routing_key,
            headers=headers,
            properties=properties,
            declare=[],
            retry_policy=options.get("retry_policy") or app.conf.task_publish_retry_policy,
        )
    config = app.broker_config()
    attributes = options.get("message_attributes") or properties.pop("message_attributes", None)
    try:
        text = encode(
            parts,
            delivery_tag=ids.uuid(),
            serializer=options.get("serializer") or app.conf.task_serializer,
            compression=options.get("compression") or app.conf.task_compression,
            base64_body=config.base64_body,
            body_encoding=config.body_encoding,
        )
    except exceptions.EncodeError as exc:
        raise exceptions.EncodeError(
            f"task {name}[{task_id}] was not sent: an argument cannot be serialised: {exc}"
        ) from exc
    delay = _delay(call.eta, properties, queue)
    outgoing = Outgoing(
        queue,
        text,
        delay_seconds=delay,
        group_id=message_group(app, name, args, kwargs, options, properties, headers),
        deduplication_id=_own_id(queue, call, properties.get("MessageDeduplicationId")),
        attributes=message_attributes(attributes),
    )
    app.publisher().send(outgoing, retries=retries(app, options))
    if signals.after_task_publish.receivers:
        signals.after_task_publish.send(
            sender=name, body=body, headers=headers, exchange=exchange, routing_key=routing_key
        )
    return task_id


def route(
    app: Celery, name: str, args: Any, kwargs: Any, options: Mapping[str, Any], task: Any = None
) -> dict[str, Any]:
    """The options of a call with what ``task_routes`` says of it; what the caller says wins."""
    functions = app.routes
    if not functions:
        return dict(options)
    found = find_route(functions, name, args or (), kwargs or {}, dict(options), task)
    return {**found, **{key: value for key, value in options.items() if value is not None or key not in found}}


def destination(app: Celery, options: Mapping[str, Any]) -> tuple[str, str, str]:
    """(queue, exchange, routing key) as the application names them."""
    queue = options.get("queue")
    exchange, routing_key = options.get("exchange"), options.get("routing_key")
    if queue is None and (exchange or routing_key):
        found = app.queue_for(str(getattr(exchange, "name", exchange) or ""), str(routing_key or ""))
        return found, "", found
    name = str(getattr(queue, "name", queue) or app.conf.task_default_queue)
    return name, "", name


def _task_call(
    app: Celery, name: str, args: Any, kwargs: Any, options: dict[str, Any], task_id: str, exchange: str, key: str
) -> TaskCall:
    args, kwargs = () if args is None else args, {} if kwargs is None else kwargs
    eta = expires = expiration = None
    if not _TIMES.isdisjoint(options):
        now = app.now()
        eta = _moment(options.get("eta"), options.get("countdown"), now, "eta", "countdown")
        expires, expiration = _expires(options.get("expires"), now)
    if eta is not None and expires is not None and (to_epoch(expires) or 0) <= (to_epoch(eta) or 0):
        warnings.warn(
            f"task {name} expires ({expires}) before it may run ({eta}): it never will", CeleryWarning, stacklevel=6
        )
    stamped = options.get("stamped_headers")
    priority = options.get("priority")
    priority = app.conf.task_default_priority if priority is None else priority
    sender, answers_to = _identity()
    said = {_FIELD_OF[key]: value for key, value in options.items() if key in _FIELD_OF and value is not None}
    return TaskCall(
        name,
        task_id,
        **said,
        args=args,
        kwargs=kwargs,
        eta=eta,
        expires=expires,
        expiration_ms=expiration,
        callbacks=_signatures(options.get("link")),
        errbacks=_signatures(options.get("link_error")),
        timelimit=(options.get("time_limit"), options.get("soft_time_limit")),
        stamps={header: options[header] for header in stamped or ()},
        origin=options.get("origin") or sender,
        reply_to=options.get("reply_to") or answers_to,
        utc=app.conf.enable_utc,
        headers=options.get("headers") or {},
        properties=_properties(options, stamped),
        priority=0 if priority is None else priority,
        delivery_mode=options.get("delivery_mode") or app.conf.task_default_delivery_mode,
        exchange=exchange,
        routing_key=key,
    )


def _properties(options: dict[str, Any], stamped: Any) -> dict[str, Any]:
    """Keywords nobody knows are message properties, which is how MessageGroupId and its like travel."""
    found = {key: value for key, value in options.items() if key not in _NO_PROPERTIES and value is not None}
    for header in stamped or ():
        found.pop(header, None)
    if "origin" in options:
        found["origin"] = options["origin"]
    return found


def _signatures(value: Any) -> list[Any] | None:
    if not value:
        return None
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _moment(instant: Any, seconds: Any, now: datetime, name: str, seconds_name: str) -> str | None:
    if seconds:
        return (now + timedelta(seconds=_seconds(seconds, seconds_name))).isoformat()
    if instant is None:
        return None
    if isinstance(instant, str):
        parse_iso(instant)
        return instant
    if not isinstance(instant, datetime):
        raise ValueError(f"{name} must be a datetime, not {instant!r}")
    return instant.isoformat()


def _seconds(value: Any, name: str) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    if abs(value) > 3650 * 86_400:
        raise ValueError(f"{name} is {value} seconds, more than ten years")
    return float(value)


def _expires(value: Any, now: datetime) -> tuple[str | None, int | None]:
    """ISO text for the header, and milliseconds for the property that AMQP brokers read."""
    if value is None:
        return None, None
    if isinstance(value, (int, float, timedelta)) and not isinstance(value, bool):
        rest = _seconds(value, "expires")
        return (now + timedelta(seconds=rest)).isoformat(), int(rest * 1000)
    text = _moment(value, None, now, "expires", "expires")
    at = to_epoch(value)
    assert at is not None
    return text, int((at - now.timestamp()) * 1000)


def _delay(eta: str | None, properties: Mapping[str, Any], queue: str) -> int | None:
    """DelaySeconds: what the caller says, else what an eta allows on a standard queue."""
    asked = properties.get("DelaySeconds", properties.get("delay_seconds"))
    if asked is not None:
        try:
            return int(asked)
        except (TypeError, ValueError) as exc:
            raise exceptions.InvalidRequest(
                f"DelaySeconds must be a number of seconds, not {asked!r}", queue=queue
            ) from exc
    if eta is None or queue.endswith(".fifo"):
        return None
    at = to_epoch(eta)
    assert at is not None
    rest = int(at - time.time())
    return max(0, min(MAX_DELAY_SECONDS, rest)) or None


def retries(app: Celery, options: Mapping[str, Any]) -> int | None:
    """How often a send that failed is tried again; None: as often as its time allows.

    ``retry=False`` and ``max_retries`` of a retry policy that somebody has set mean what they do in Celery; the intervals
    are ours. https://docs.celeryq.dev/en/stable/userguide/calling.html#message-sending-retry
    """
    wanted = options.get("retry")
    if not (app.conf.task_publish_retry if wanted is None else wanted):
        return 0
    policy = options.get("retry_policy")
    if policy is None and app.conf.is_set("task_publish_retry_policy"):
        policy = app.conf.task_publish_retry_policy
    most = (policy or {}).get("max_retries")
    return None if most is None else max(0, int(most))


def _own_id(queue: str, call: TaskCall, given: Any) -> str | None:
    if given:
        return str(given)
    if not queue.endswith(".fifo"):
        return None
    facts = {"retries": call.retries, "replaced_task_nesting": call.replaced_task_nesting}
    return deduplication_id(call.id, facts)


def message_attributes(value: Any) -> dict[str, Any]:
    """SQS message attributes from their full form or from plain text, numbers and bytes."""
    found: dict[str, Any] = {}
    for name, each in (value or {}).items():
        if isinstance(each, Mapping):
            found[name] = dict(each)
        elif isinstance(each, (bytes, bytearray)):
            found[name] = {"DataType": "Binary", "BinaryValue": bytes(each)}
        elif isinstance(each, (int, float)) and not isinstance(each, bool):
            found[name] = {"DataType": "Number", "StringValue": str(each)}
        else:
            found[name] = {"DataType": "String", "StringValue": str(each)}
    return found


def origin() -> str:
    """The header ``origin`` of a producer: ``gen<pid>@<host>``."""
    return _identity()[0]


def reply_to() -> str:
    """A name for this thread, as Celery's producers give one; only RPC results would use it."""
    return _identity()[1]


def _identity() -> tuple[str, str]:
    """Both, which a process that was forked does not inherit."""
    pid = os.getpid()
    if getattr(_IDENTITY, "pid", None) != pid:
        text = f"{uuid.getnode():x}-{pid:x}-{threading.get_ident():x}"
        _IDENTITY.names = f"gen{pid}@{socket.gethostname()}", str(uuid.uuid3(uuid.NAMESPACE_OID, text))
        _IDENTITY.pid = pid
    names: tuple[str, str] = _IDENTITY.names
    return names


def utc_now() -> datetime:
    """The present, aware, in UTC."""
    return datetime.now(timezone.utc)
