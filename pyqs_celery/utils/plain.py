"""Values in the words that JSON has."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any


def plain(value: Any) -> Any:
    """``value`` for JSON. What JSON has no word for becomes text; bytes that are no text become base64."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item) for item in value), key=repr)
    return _shown(value)


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return base64.b64encode(raw).decode("ascii")


def _shown(value: Any) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _text(bytes(value))
    try:
        return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)
    except Exception as exc:  # noqa: BLE001 - a value of the user's may fail to describe itself in any way
        return f"<{type(value).__name__} that cannot be shown: {type(exc).__name__}>"
