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
from pyqs_celery.wire.compression import MAX_DECOMPRESSED_BYTES, decompress, is_known
from pyqs_celery.wire.envelope import (
    counted,
    described,
    identity,
    open_payload,
    task_name,
    time_limits,
    whole_number,
)
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
    digest: str = "sha256",
    decompressed_most: int = MAX_DECOMPRESSED_BYTES,
) -> TaskMessage:
    """Read the arguments of a message whose head is known. Raises the WireError family and nothing else.

    ``accept_content`` holds serializer names or content types, ``pickle_allowed_classes`` globs of the classes a
    pickle may name (None: any), ``certificates`` PEM texts or paths for signed messages and ``digest`` that of their
    signatures, ``decompressed_most`` the bytes a compressed body may unpack to.
    """
    try:
        if head.protocol == "pyqs":
            serializers.check_accepted("application/json", accept_content)
            args, kwargs = json.loads(head.payload)
            return TaskMessage("pyqs", head.task or "", None, args=args, kwargs=_string_keys(kwargs))
        content_type = serializers.check_accepted(head.content_type or "application/json", accept_content)
        data = open_payload(head.payload, head.body_encoding)
        encoding = head.content_encoding
        if head.compression:
            data = _unpacked(data, head.compression, decompressed_most)
        if content_type == serializers.SIGNED_TYPE:
            signed = open_signed(data, certificates, digest)
            content_type, encoding, data = signed.content_type, signed.content_encoding, signed.body
        value = serializers.loads(data, content_type, encoding, pickle_allowed_classes=pickle_allowed_classes)
        return _protocol_2(head, value) if head.protocol == 2 else _protocol_1(head, value)
    except WireError:
        raise
    except Exception as exc:  # values of a pickle may be of classes that raise anything
        raise BodyDecodeError(f"the task body cannot be read: {serializers.told(exc)}") from exc


def _unpacked(data: bytes, compression: str, most: int) -> bytes:
    """Decompress; Celery 3.1 puts the header on retries that it did not compress, so plain JSON is let through."""
    try:
        return decompress(data, compression, most)
    except BodyDecodeError:
        if is_known(compression) and data[:1] in (b"{", b"["):
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
        callbacks=_signatures(embed.get("callbacks"), "callbacks"),
        errbacks=_signatures(embed.get("errbacks"), "errbacks"),
        chain=_signatures(embed.get("chain"), "chain"),
        chord=_signature(embed.get("chord")),
        group=head.group,
        group_index=counted(headers.get("group_index")),
        root_id=described(headers.get("root_id")),
        parent_id=described(headers.get("parent_id")),
        timelimit=list(head.timelimit),
        headers={key: each for key, each in headers.items() if key not in _PROTOCOL_2_HEADERS},
        stamped_headers=_names(headers.get("stamped_headers")),
        stamps=_by_name(headers.get("stamps")),
        shadow=described(headers.get("shadow")),
        ignore_result=headers.get("ignore_result"),
        argsrepr=described(headers.get("argsrepr")),
        kwargsrepr=described(headers.get("kwargsrepr")),
        origin=described(headers.get("origin")),
        lang=described(headers.get("lang")),
        replaced_task_nesting=counted(headers.get("replaced_task_nesting")),
        **_envelope_fields(head),
    )


def _protocol_1(head: Head, value: Any) -> TaskMessage:
    if not isinstance(value, Mapping) or "task" not in value:
        raise BodyDecodeError("the task body names no task")
    utc = value.get("utc")
    eta, expires = value.get("eta"), value.get("expires")
    naive_is_utc = utc is not False
    return TaskMessage(
        1,
        task_name(value["task"]),
        identity(value.get("id"), "id"),
        args=_arguments(value.get("args")),
        kwargs=_string_keys(value.get("kwargs")),
        retries=whole_number(value.get("retries"), "retries"),
        eta=_text(eta),
        expires=_text(expires),
        eta_at=to_epoch(eta, naive_is_utc=naive_is_utc),
        expires_at=to_epoch(expires, naive_is_utc=naive_is_utc),
        callbacks=_signatures(value.get("callbacks"), "callbacks"),
        errbacks=_signatures(value.get("errbacks"), "errbacks"),
        chord=_signature(value.get("chord")),
        group=identity(value.get("group") or value.get("taskset"), "group"),
        group_index=counted(value.get("group_index")),
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
        "reply_to": described(properties.get("reply_to")),
        "correlation_id": described(properties.get("correlation_id")),
        "priority": counted(priority),
        "delivery_mode": counted(properties.get("delivery_mode")),
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


def _by_name(value: Any) -> dict[str, Any]:
    found = value.items() if isinstance(value, Mapping) else ()
    return {name: each for name, each in found if isinstance(name, str)}


def _names(value: Any) -> list[str] | None:
    if not isinstance(value, (list, tuple)):
        return None
    return [name for name in value if isinstance(name, str)]


def _signatures(value: Any, name: str) -> list[Any] | None:
    """What follows a task. Checked before the task runs: it could not be told of its end, and would run again."""
    if value is None:
        return None
    found = [value] if isinstance(value, Mapping) else value
    if not isinstance(found, (list, tuple)):
        raise BodyDecodeError(f"{name} is {type(value).__name__}, not a list")
    if not all(isinstance(each, Mapping) and isinstance(each.get("task"), str) for each in found):
        raise BodyDecodeError(f"{name} holds what is no signature")
    return list(found)


def _signature(value: Any) -> Any:
    found = _signatures(None if value is None else [value], "chord")
    return None if found is None else found[0]


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    raise EnvelopeError(f"text was expected, not {type(value).__name__}")
