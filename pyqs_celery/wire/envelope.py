"""The outer layers of an SQS body: base64 or not, the JSON envelope, and what its head says.

Nothing here opens arguments, decompresses or unpickles, so the worker's consumer may read any message with it.
Layouts, oldest first, are in ``samples.md``.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any

from pyqs_celery.exceptions import EnvelopeError, ForeignMessage
from pyqs_celery.utils.text import is_plain
from pyqs_celery.utils.times import to_epoch
from pyqs_celery.wire.message import Head

JSON_TYPES = frozenset({"application/json", "application/x-json"})
_BASE64 = re.compile(r"^[A-Za-z0-9+/_-]+={0,2}$")
_URLSAFE = str.maketrans("-_", "+/")
LONGEST_NAME = 1024
"""Characters in the longest task name or id that is one; ids are 36, and stores take no longer keys."""
MOST = 2**31 - 1
"""The largest count that a message may name."""
YEAR_SECONDS = 365 * 86_400
_NAMED = ("task", "args", "kwargs")


def decode_head(body: str) -> Head:
    """Read what a message says of itself. Raises EnvelopeError (broken) or ForeignMessage (somebody else's).

    ``body`` is the text of the SQS message. Messages that SNS has wrapped in a notification are unwrapped once.
    """
    try:
        return _head(body)
    except (RecursionError, MemoryError, ValueError, TypeError, OverflowError) as exc:
        raise EnvelopeError(f"the message cannot be read: {type(exc).__name__}") from exc


def _head(body: str) -> Head:
    document = _outer(body)
    if document.get("Type") == "Notification" and isinstance(document.get("Message"), str):
        document = _outer(document["Message"])
    if "properties" in document or "headers" in document:
        return _celery_head(document)
    if all(name in document for name in _NAMED):
        return _native_head(document)
    raise ForeignMessage(f"neither Celery's nor PyQS's: a JSON object with the keys {_some_keys(document)}")


def _some_keys(document: Mapping[str, Any]) -> str:
    return ", ".join(sorted(str(key)[:40] for key in document)[:8]) or "(none)"


def _outer(body: Any) -> dict[str, Any]:
    if not isinstance(body, str):
        raise EnvelopeError(f"the body is {type(body).__name__}, not text")
    text = body.strip().removeprefix("\ufeff")
    if not text.startswith(("{", "[")):
        text = _from_base64(text)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise EnvelopeError(f"the body is not JSON: {_short(exc)}") from exc
    if not isinstance(document, dict):
        raise ForeignMessage(f"the body is a JSON {type(document).__name__}, not an object")
    return document


def _from_base64(text: str) -> str:
    """The text inside base64; unpadded and URL-safe forms are read, as other senders write them."""
    bare = text.rstrip("=")
    if "-" in bare or "_" in bare:
        bare = bare.translate(_URLSAFE)
    try:
        raw = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
        decoded = raw.decode("utf-8").strip().removeprefix("\ufeff")
    except (binascii.Error, ValueError) as exc:
        if not _BASE64.match(text):
            raise ForeignMessage(f"neither JSON nor base64, {len(text)} characters") from None
        raise EnvelopeError(f"the body is not base64 of text: {_short(exc)}") from exc
    if not decoded.startswith("{"):
        raise ForeignMessage("the body is base64, but not of a JSON object")
    return decoded


def _short(exc: BaseException) -> str:
    return str(exc)[:200] or type(exc).__name__


def _native_head(document: dict[str, Any]) -> Head:
    task, args, kwargs = (document[name] for name in _NAMED)
    if not isinstance(task, str) or not isinstance(args, list) or not isinstance(kwargs, dict):
        raise ForeignMessage("a JSON object with task, args and kwargs, but not of PyQS's types")
    return Head("pyqs", task_name(task), None, payload=json.dumps([args, kwargs]))


def _celery_head(document: dict[str, Any]) -> Head:
    headers, properties, payload = (document.get(name) for name in ("headers", "properties", "body"))
    if not isinstance(properties, dict) or not isinstance(headers, dict):
        raise EnvelopeError("the envelope has no headers or no properties")
    if not isinstance(payload, str) or not payload:
        raise EnvelopeError("the envelope has no body")
    content_type = _text(document, "content-type")
    encoding = _text(document, "content-encoding")
    compression = headers.get("compression")
    body_encoding = properties.get("body_encoding")
    if compression is not None and not isinstance(compression, str):
        raise EnvelopeError("the header compression is not text")
    if body_encoding is not None and not isinstance(body_encoding, str):
        raise EnvelopeError("the property body_encoding is not text")
    if "task" in headers:
        facts, protocol, sealed = headers, 2, False
    elif content_type in JSON_TYPES and not compression:
        facts, protocol, sealed = _protocol_1_facts(payload, body_encoding), 1, False
    else:
        facts, protocol, sealed = {}, 1, True
    fields = _head_fields(facts, naive_is_utc=protocol == 2 or facts.get("utc") is not False)
    return Head(
        2 if protocol == 2 else 1,
        sealed=sealed,
        content_type=content_type,
        content_encoding=encoding,
        compression=compression,
        body_encoding=body_encoding,
        raw_headers=headers,
        properties=properties,
        payload=payload,
        **fields,
    )


def _text(document: dict[str, Any], key: str) -> str | None:
    value = document.get(key)
    if value is not None and not isinstance(value, str):
        raise EnvelopeError(f"{key} is not text")
    return value


def _protocol_1_facts(payload: str, body_encoding: str | None) -> dict[str, Any]:
    """Protocol 1 keeps the task's name beside the arguments; JSON is parsed here without type hooks."""
    try:
        facts = json.loads(open_payload(payload, body_encoding))
    except (ValueError, RecursionError) as exc:
        raise EnvelopeError(f"the task body is not JSON: {_short(exc)}") from exc
    if not isinstance(facts, dict) or "task" not in facts:
        raise EnvelopeError("no header and no body key names a task")
    return facts


def open_payload(payload: str, body_encoding: str | None) -> bytes:
    """The bytes of the task body as they stand before decompression. Raises EnvelopeError."""
    if body_encoding in (None, "utf-8", "utf8"):
        try:
            return payload.encode("utf-8")
        except UnicodeEncodeError as exc:
            raise EnvelopeError("the task body holds characters that are no text") from exc
    if body_encoding != "base64":
        raise EnvelopeError(f"unknown body_encoding {body_encoding[:40]!r}")
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise EnvelopeError(f"the task body is not base64: {_short(exc)}") from exc


def _head_fields(facts: Mapping[str, Any], *, naive_is_utc: bool) -> dict[str, Any]:
    try:
        eta = to_epoch(facts.get("eta"), naive_is_utc=naive_is_utc)
        expires = to_epoch(facts.get("expires"), naive_is_utc=naive_is_utc)
    except ValueError as exc:
        raise EnvelopeError(f"eta or expires: {_short(exc)}") from exc
    group = facts.get("group") or facts.get("taskset")
    return {
        "task": task_name(facts.get("task")) if facts else None,
        "id": identity(facts.get("id"), "id"),
        "eta": eta,
        "expires": expires,
        "group": identity(group, "group"),
        "retries": whole_number(facts.get("retries"), "retries"),
        "timelimit": time_limits(facts.get("timelimit")),
    }


def task_name(value: Any) -> str:
    """The name of a task, which may be one that nobody knows. Raises EnvelopeError for what is no name."""
    name = identity(str(value) if type(value) in (int, float) else value, "the task's name")
    if name is None:
        raise EnvelopeError("the message names no task")
    return name


def identity(value: Any, name: str) -> str | None:
    """A name or an id from a message, or None. Raises EnvelopeError unless it is plain text of a sane length."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise EnvelopeError(f"{name} is not text")
    if len(value) > LONGEST_NAME:
        raise EnvelopeError(f"{name} has {len(value)} characters, more than {LONGEST_NAME}")
    if not is_plain(value):
        raise EnvelopeError(f"{name} holds characters that are no text")
    return value


def described(value: Any) -> str | None:
    """A header that only describes (``origin``, ``argsrepr``, ``root_id``): text, or what is none is left out."""
    return value if isinstance(value, str) else None


def counted(value: Any) -> int | None:
    """A number that only describes, or None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST else None


def whole_number(value: Any, name: str) -> int:
    """A count from a message, None being 0. Raises EnvelopeError."""
    if value is None:
        return 0
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST:
        return value
    raise EnvelopeError(f"{name} is not a whole number from 0 to {MOST}")


def time_limits(value: Any) -> tuple[float | None, float | None]:
    """(hard, soft) seconds from a message, None being none; over a year counts as a year. Raises EnvelopeError."""
    if value is None or value == [None, None]:
        return (None, None)
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise EnvelopeError("timelimit is not a pair")
    for limit in value:
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, (int, float)) or not limit >= 0):
            raise EnvelopeError("timelimit is not a pair of numbers from 0 on")
    hard, soft = (limit if limit is None else min(limit, YEAR_SECONDS) for limit in value)
    return (hard, soft)


def head_to_plain(head: Head) -> tuple[Any, ...]:
    """A head as builtins that ``marshal`` can carry to a child."""
    return (
        head.protocol,
        head.task,
        head.id,
        head.eta,
        head.expires,
        head.group,
        head.retries,
        head.timelimit,
        head.sealed,
        head.content_type,
        head.content_encoding,
        head.compression,
        head.body_encoding,
        dict(head.raw_headers),
        dict(head.properties),
        head.payload,
    )


def head_from_plain(plain: tuple[Any, ...]) -> Head:
    """The inverse of ``head_to_plain``."""
    return Head(*plain)
