"""Tables, JSON and colour on the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click

from pyqs_celery.utils.plain import plain


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
    known = plain(value)
    text = json.dumps(known, ensure_ascii=False)
    # Half a surrogate pair is fine in JSON as an escape, but no encoding can write it.
    return text if _is_writable(text) else json.dumps(known)


def _is_writable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
