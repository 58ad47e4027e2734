"""Tables, JSON and colour on the terminal."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click


def table(rows: Iterable[Sequence[object]], headings: Sequence[str]) -> str:
    """Rows under headings in columns as wide as their widest cell; no trailing blanks."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(line[index]) for line in [list(headings), *cells]) for index in range(len(headings))]
    lines = [list(headings), ["-" * width for width in widths], *cells]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def styled(text: str, *, colour: str, enabled: bool) -> str:
    """``text`` in a colour, where colours are wanted."""
    return click.style(text, fg=colour) if enabled else text


def to_json(value: Any) -> str:
    """``value`` as one line of JSON. What JSON has no word for becomes text; bytes that are no text become base64."""
    plain = _plain(value)
    text = json.dumps(plain, ensure_ascii=False)
    # Half a surrogate pair is fine in JSON as an escape, but no encoding can write it.
    return text if _is_writable(text) else json.dumps(plain)


def _is_writable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(item) for item in value), key=repr)
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
