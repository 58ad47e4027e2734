"""``celery.utils.serialization``: base64 as text."""

from __future__ import annotations

import base64


def b64encode(s: bytes | str) -> str:
    """Bytes, or text as UTF-8, as base64 text."""
    return base64.b64encode(s.encode("utf-8") if isinstance(s, str) else s).decode("ascii")


def b64decode(s: bytes | str) -> bytes:
    """The inverse."""
    return base64.b64decode(s.encode("ascii") if isinstance(s, str) else s)
