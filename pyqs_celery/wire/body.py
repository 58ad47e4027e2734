"""From a head to the whole task call: the payload is opened, checked and given its fields.

This may run code when pickle is accepted, so the worker does it in a child only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyqs_celery.exceptions import BodyDecodeError, EnvelopeError, WireError
from pyqs_celery.utils.times import to_epoch
from pyqs_celery.wire import serializers
from pyqs_celery.wire.compression import decompress
from pyqs_celery.wire.envelope import open_payload, time_limits, whole_number
from pyqs_celery.wire.message import Head, TaskMessage
from pyqs_celery.wire.signing import open_signed

_PROTOCOL_2_HEADERS = frozenset(
    "lang task id shadow eta expires group group_index retries timelimit root_id parent_id argsrepr kwargsrepr "
    "origin ignore_result replaced_task_nesting stamped_headers stamps compression".split()
)


def decode_body(
    head: Head,
    *,
    accept_content: Iterable[str] = ("json",),
    pickle_allowed_classes: Sequence[str] | None = None,
    certificates: Iterable[str] | None = None,
) -> TaskMessage:
    """Read the arguments of a message whose head is known. Raises the WireError family and nothing else.

    ``accept_content`` holds serializer names or content types, ``pickle_allowed_classes`` globs of the classes a
    pickle may name (None: any), ``certificates`` PEM texts or paths for signed messages.
    """
    try:
        if head.protocol == "pyqs":
            args, kwargs = json.loads(head.payload)
            return TaskMessage("pyqs", head.task or "", None, args=args, kwargs=_string_keys(kwargs))
        value = _open(head, accept_content, pickle_allowed_classes, certificates)
        return _protocol_2(head, value) if head.protocol == 2 else _protocol_1(head, value)
    except WireError:
        raise
    except (RecursionError, MemoryError, ValueError, TypeError, OverflowError) as exc:
        raise BodyDecodeError(f"the task body cannot be read: {type(exc).__name__}: {str(exc)[:200]}") from exc


def _open(
    head: Head,
    accept_content: Iterable[str],
    pickle_allowed_classes: Sequence[str] | None,
    certificates: Iterable[str] | None,
) -> Any:
    accept = tuple(accept_content)
    content_type = serializers.check_accepted(head.content_type or "application/json", accept)
    data = open_payload(head.payload, head.body_encoding)
    encoding = head.content_encoding
    if head.compression:
        data = _unpacked(data, head.compression)
    if content_type == serializers.SIGNED_TYPE:
        signed = open_signed(data, certificates)
        content_type, encoding, data = signed.content_type, signed.content_encoding, signed.body
    return serializers.loads(data, content_type, encoding, pickle_allowed_classes=pickle_allowed_classes)


def _unpacked(data: bytes, compression: str) -> bytes:
    """Decompress; Celery 3.1 puts the header on retries that it did not compress, so plain JSON is let through."""
    try:
        return decompress(data, compression)
    except BodyDecodeError:
        if data[:1] in (b"{", b"["):
            return data
        raise


def _protocol_2(head: Head, value: Any) -> TaskMessage:
    headers = head.raw_headers
    args: Any
    kwargs: Any
    embed: Any
    if isinstance(value, Mapping) and "args" in value and "task" in value:
        args, kwargs, embed = value["args"], value.get("kwargs"), value
    elif isinstance(value, (list, tuple)) and len(value) == 3:
        args, kwargs, embed = value
    else:
        raise BodyDecodeError("the task body is not [args, kwargs, embed]")
    if embed is None:
        embed = {}
    if not isinstance(embed, Mapping):
        raise BodyDecodeError("the third part of the task body is not an object")
    stamps = headers.get("stamps")
    return TaskMessage(
        2,
        head.task or "",
        head.id,
        args=_arguments(args),
        kwargs=_string_keys(kwargs),
        retries=head.retries,
        eta=_text(headers.get("eta")),
        expires=_text(headers.get("expires")),
        eta_at=head.eta,
        expires_at=head.expires,
        callbacks=_list(embed.get("callbacks"), "callbacks"),
        errbacks=_list(embed.get("errbacks"), "errbacks"),
        chain=_list(embed.get("chain"), "chain"),
        chord=_signature(embed.get("chord")),
        group=head.group,
        group_index=headers.get("group_index"),
        root_id=headers.get("root_id"),
        parent_id=headers.get("parent_id"),
        timelimit=list(head.timelimit),
        headers={key: each for key, each in headers.items() if key not in _PROTOCOL_2_HEADERS},
        stamped_headers=_list(headers.get("stamped_headers"), "stamped_headers"),
        stamps=dict(stamps) if isinstance(stamps, Mapping) else {},
        shadow=headers.get("shadow"),
        ignore_result=headers.get("ignore_result"),
        argsrepr=headers.get("argsrepr"),
        kwargsrepr=headers.get("kwargsrepr"),
        origin=headers.get("origin"),
        lang=headers.get("lang"),
        replaced_task_nesting=headers.get("replaced_task_nesting"),
        **_envelope_fields(head),
    )


def _protocol_1(head: Head, value: Any) -> TaskMessage:
    if not isinstance(value, Mapping) or "task" not in value:
        raise BodyDecodeError("the task body names no task")
    task, identity = value["task"], value.get("id")
    if identity is not None and not isinstance(identity, str):
        raise BodyDecodeError("id is not text")
    utc = value.get("utc")
    eta, expires = value.get("eta"), value.get("expires")
    naive_is_utc = utc is not False
    return TaskMessage(
        1,
        str(task),
        identity,
        args=_arguments(value.get("args")),
        kwargs=_string_keys(value.get("kwargs")),
        retries=whole_number(value.get("retries"), "retries"),
        eta=_text(eta),
        expires=_text(expires),
        eta_at=to_epoch(eta, naive_is_utc=naive_is_utc),
        expires_at=to_epoch(expires, naive_is_utc=naive_is_utc),
        callbacks=_list(value.get("callbacks"), "callbacks"),
        errbacks=_list(value.get("errbacks"), "errbacks"),
        chord=_signature(value.get("chord")),
        group=value.get("group") or value.get("taskset"),
        group_index=value.get("group_index"),
        timelimit=list(time_limits(value.get("timelimit"))),
        headers={key: each for key, each in head.raw_headers.items() if key != "compression"},
        utc=utc,
        **_envelope_fields(head),
    )


def _envelope_fields(head: Head) -> dict[str, Any]:
    properties = head.properties
    info = properties.get("delivery_info")
    info = dict(info) if isinstance(info, Mapping) else {}
    priority = properties.get("priority", info.get("priority"))
    return {
        "reply_to": _text(properties.get("reply_to")),
        "correlation_id": _text(properties.get("correlation_id")),
        "priority": priority if isinstance(priority, int) else None,
        "delivery_mode": properties.get("delivery_mode"),
        "delivery_info": info,
        "properties": dict(properties),
        "content_type": head.content_type,
        "content_encoding": head.content_encoding,
        "compression": head.compression,
        "body_encoding": head.body_encoding,
    }


def _arguments(value: Any) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, (list, tuple)):
        return list(value)
    raise BodyDecodeError(f"args is {type(value).__name__}, not a list")


def _string_keys(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise BodyDecodeError(f"kwargs is {type(value).__name__}, not an object")
    if not all(isinstance(key, str) for key in value):
        raise BodyDecodeError("kwargs has a key that is no text")
    return dict(value)


def _list(value: Any, name: str) -> list[Any] | None:
    if value is None or isinstance(value, list):
        return value
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Mapping):
        return [value]
    raise BodyDecodeError(f"{name} is {type(value).__name__}, not a list")


def _signature(value: Any) -> Any:
    if value is None or isinstance(value, Mapping):
        return value
    raise BodyDecodeError("chord is not a signature")


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    raise EnvelopeError(f"text was expected, not {type(value).__name__}")
