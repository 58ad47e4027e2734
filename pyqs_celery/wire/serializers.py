"""Content types: which are accepted, and how the bytes of a task body become values; ``dumping.py`` is the way back.

JSON, pickle and msgpack are opened here, since messages of old producers need care that kombu does not take; whatever
else is registered with ``kombu.serialization`` (yaml, your own) is opened by it.
"""

from __future__ import annotations

import base64
import codecs
import json
import pickle
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, time
from decimal import Decimal
from typing import Any

from kombu import serialization
from kombu.utils import json as kombu_json

from pyqs_celery.exceptions import BodyDecodeError, MissingExtra, UnacceptedContent, WireError
from pyqs_celery.wire import bounded_yaml, pickling
from pyqs_celery.wire.dumping import PICKLE_TYPE

SIGNED_TYPE = "application/data"
_TYPES = {
    "json": "application/json",
    "pickle": PICKLE_TYPE,
    "yaml": "application/x-yaml",
    "msgpack": "application/x-msgpack",
    "raw": "application/data",
    "auth": SIGNED_TYPE,
}
_EXTRAS = {"application/x-yaml": "yaml", "application/x-msgpack": "msgpack"}
_ALIASES = {"application/x-json": "application/json", "application/x-pickle": PICKLE_TYPE}


def accepted_types(accept_content: Iterable[str]) -> frozenset[str]:
    """The content types that names or types of ``accept_content`` stand for."""
    found = set()
    for entry in accept_content:
        registered = getattr(serialization.registry, "name_to_type", {}).get(entry)
        found.add(_TYPES.get(entry) or registered or _ALIASES.get(entry, entry))
    return frozenset(found)


def check_accepted(content_type: str, accept_content: Iterable[str]) -> str:
    """The content type in its usual spelling. Raises UnacceptedContent unless it is accepted."""
    usual = _ALIASES.get(content_type, content_type)
    for entry in accept_content:
        if _TYPES.get(entry, entry) == usual:
            return usual
    accepted = accepted_types(accept_content)
    if usual not in accepted:
        wanted = ", ".join(sorted(accepted)) or "nothing"
        raise UnacceptedContent(
            f"content type {content_type[:80]!r} is not accepted (accept_content allows {wanted}); "
            "add its serializer to accept_content if you trust every sender"
        )
    return usual


def loads(
    data: bytes,
    content_type: str,
    content_encoding: str | None,
    *,
    pickle_allowed_classes: Sequence[str] | None = None,
) -> Any:
    """Deserialise one task body whose type has been checked. Raises BodyDecodeError for any failure."""
    try:
        if content_type == "application/json":
            return _from_json.decode(_text(data, content_encoding))
        if content_type == PICKLE_TYPE:
            return pickling.loads(data, pickle_allowed_classes)
        if content_type == "application/x-msgpack":
            return _msgpack(data)
        if content_type == "application/x-yaml" and content_type in serialization.registry._decoders:
            return bounded_yaml.loads(_text(data, content_encoding))
        if content_type not in serialization.registry._decoders and content_type in _EXTRAS:
            extra = _EXTRAS[content_type]
            raise MissingExtra(f"reading {content_type} needs an extra: pip install 'pyqs-celery[{extra}]'")
        payload = data if content_encoding in ("binary", "ascii-8bit") else _text(data, content_encoding)
        return serialization.loads(payload, content_type, content_encoding or "utf-8", accept={content_type})
    except WireError:
        raise
    except Exception as exc:  # a serializer may raise anything, and pickled classes do
        raise BodyDecodeError(f"the arguments ({content_type}) cannot be read: {told(exc)}") from exc


def told(exc: BaseException) -> str:
    """What went wrong, in words that hold nothing of the arguments: others' sentences quote the value they refuse."""
    quotes_nothing = (json.JSONDecodeError, UnicodeDecodeError, RecursionError, pickle.UnpicklingError, EOFError)
    return f"{type(exc).__name__}: {exc}"[:300] if isinstance(exc, quotes_nothing) else type(exc).__name__


def _text(data: bytes, content_encoding: str | None) -> str:
    if content_encoding in ("utf-8", None):
        return data.decode()
    try:
        codec = codecs.lookup(content_encoding or "utf-8").name
    except (LookupError, ValueError):
        codec = "utf-8"
    if codec not in _TEXT_CODECS:
        codec = "utf-8"
    return data.decode(codec)


_TEXT_CODECS = frozenset({"utf-8", "ascii", "iso8859-1", "utf-16", "utf-32", "cp1252"})


def _own_object_hook(value: dict[str, Any]) -> Any:
    if value.keys() != {"__type__", "__value__"}:
        return value
    reader = _READERS.get(value["__type__"])
    if reader is None:
        raise ValueError(f"unknown __type__ {value['__type__']!r:.60}")
    return reader(value["__value__"])


_READERS: dict[str, Callable[[Any], Any]] = {
    "datetime": datetime.fromisoformat,
    "date": lambda text: datetime.fromisoformat(text).date(),
    "time": time.fromisoformat,
    "decimal": Decimal,
    "uuid": lambda parts: uuid.UUID(**parts),
    "bytes": lambda text: text.encode("utf-8"),
    "base64": lambda text: base64.b64decode(text.encode("utf-8")),
}
# kombu's own hook knows types that applications registered with it; kombu before 5.3 has none
_from_json = json.JSONDecoder(object_hook=getattr(kombu_json, "object_hook", _own_object_hook))


def _msgpack(data: bytes) -> Any:
    try:
        import msgpack
    except ImportError as exc:
        raise MissingExtra("reading msgpack needs an extra: pip install 'pyqs-celery[msgpack]'") from exc
    found = msgpack.unpackb(data, raw=False, strict_map_key=False)
    return _python_2_text(found) if _mentions_bytes_keys(found) else found


def _mentions_bytes_keys(value: Any) -> bool:
    if isinstance(value, dict):
        return any(isinstance(key, bytes) for key in value) or any(map(_mentions_bytes_keys, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_mentions_bytes_keys, value))
    return False


def _python_2_text(value: Any) -> Any:
    """Bytes that are UTF-8 become text: Python 2 producers wrote their ``str`` as bytes."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value
    if isinstance(value, dict):
        return {_python_2_text(key): _python_2_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_python_2_text(item) for item in value]
    return value
