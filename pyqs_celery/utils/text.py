"""Text made from values: bounded reprs for headers and logs, and lines that cannot forge other lines."""

from __future__ import annotations

import numbers
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

REPR_MAXSIZE = 1024
REPR_MAXLEVELS = 3
_UNSEEN = "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ufffe\uffff"
_HARMFUL = re.compile(f"[\\x00-\\x1f\\x7f-\\x9f{_UNSEEN}\\ud800-\\udfff\U000e0000-\U000e007f]")
_HARMFUL_IN_LINES = re.compile(_HARMFUL.pattern.replace(r"\x00-\x1f", r"\x00-\x08\x0b-\x1f"))


def one_line(text: object, limit: int = 1024) -> str:
    """Make foreign text safe for one log line: what commands a terminal or hides is escaped, the length bounded.

    Escaped are control characters and line ends, what turns the direction of writing or shows nothing, and halves of
    surrogate pairs, which no log file takes.
    """
    found = str(text)
    if len(found) > limit:
        found = found[:limit] + "..."
    return _HARMFUL.sub(_escaped, found)


def plain_lines(text: str) -> str:
    """The same for text of several lines: line ends and tabs stay. The length too."""
    return _HARMFUL_IN_LINES.sub(_escaped, text)


def is_plain(text: str) -> bool:
    """True if nothing in it would have to be escaped in a log line."""
    return _HARMFUL.search(text) is None


def _escaped(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode("ascii")


def truncate(text: str, limit: int, suffix: str = "...") -> str:
    """Cut ``text`` at a word boundary when it is ``limit`` characters or longer; 0 means no limit."""
    if limit and len(text) >= limit:
        return text[:limit].rsplit(" ", 1)[0] + suffix
    return text


def saferepr(value: Any, maxlen: int = REPR_MAXSIZE, maxlevels: int = REPR_MAXLEVELS) -> str:
    """A repr bounded in length and depth, in the form Celery writes into ``argsrepr``.

    Celery workers and monitoring show this text, so it is the same character for character: strings always in single
    quotes, containers below ``maxlevels`` as ``[...]``, and what is over ``maxlen`` as ``, ...`` before the closing
    parentheses. Never raises, whatever ``__repr__`` does.
    """
    if not value and type(value) in _EMPTY and maxlen > 0 and maxlevels > 0:
        return _EMPTY[type(value)]
    writer = _Repr(maxlen, maxlevels)
    writer.write(value, 0)
    return "".join(writer.parts)


_EMPTY: dict[type, str] = {tuple: "()", dict: "{}", list: "[]"}
_NUMBERS = frozenset({int, float, bool})


class _Repr:
    def __init__(self, budget: int, maxlevels: int) -> None:
        self.parts: list[str] = []
        self.budget = budget
        self.maxlen = budget
        self.maxlevels = maxlevels
        self.cut = False
        self.seen: set[int] = set()

    def put(self, text: str) -> bool:
        """Write a token, or the mark that tokens are missing; False if it was not written."""
        if self.cut:
            return False
        if self.budget <= 0:
            self.parts.append(", ...")
            self.cut = True
            return False
        self.parts.append(text)
        self.budget -= len(text)
        return True

    def close(self, text: str, opened: bool) -> None:
        if not opened:
            return
        self.parts.append(text)
        if self.budget > 0:
            self.budget -= len(text)

    def write(self, value: Any, level: int) -> None:
        if type(value) in _NUMBERS:
            self.put_text(str(value))
        elif isinstance(value, Decimal):
            self.put_text(_repr(value))
        elif isinstance(value, numbers.Number):
            self.put_text(str(value))
        elif isinstance(value, (str, bytes)):
            self.put(self.quoted(value)) if self.budget > 0 else self.put("")
        elif isinstance(value, (set, frozenset)) and not value:
            self.put_text(f"{type(value).__name__}()")
        elif isinstance(value, (set, frozenset, tuple, list, dict)):
            self.container(value, level)
        else:
            self.put_text(_repr(value))

    def put_text(self, text: str) -> None:
        self.put(truncate(text, self.budget) if self.budget > 0 else text)

    def quoted(self, value: str | bytes) -> str:
        if isinstance(value, str):
            return "'" + truncate(value, self.budget).replace("'", "\\'") + "'"
        if len(value) > self.budget:
            return f"b'{_bytes_text(value[: self.budget])}...'"
        return f"b'{_bytes_text(value)}'"

    def container(self, value: Any, level: int) -> None:
        start, end = _brackets(value)
        if level >= self.maxlevels:
            self.put(f"{start}...{end}")
            return
        if id(value) in self.seen:
            self.put_text(f"<Recursion on {type(value).__name__} with id={id(value)}>")
            return
        self.seen.add(id(value))
        opened = self.put(start)
        items: Iterable[Any] = value.items() if isinstance(value, dict) else value
        for index, part in enumerate(items):
            if self.cut:
                break
            if index:
                self.put(", ")
            item = part
            if isinstance(value, dict):
                key, item = part
                if self.budget > 0:
                    self.put(saferepr(key, self.budget, self.maxlevels))
                else:
                    self.put("")
                self.put(": ")
            if not self.cut:
                self.write(item, level + 1)
        self.close(end, opened)
        self.seen.discard(id(value))


def _brackets(value: Any) -> tuple[str, str]:
    if isinstance(value, dict):
        return "{", "}"
    if isinstance(value, list):
        return "[", "]"
    if isinstance(value, tuple):
        return "(", ",)" if len(value) == 1 else ")"
    if type(value) is set:
        return "{", "}"
    return f"{type(value).__name__}({{", "})"


def _bytes_text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.hex()


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception as exc:  # noqa: BLE001 - a user's __repr__ may do anything; the send must not fail for it
        return f"<Unrepresentable {type(value)!r}: {type(exc).__name__}>"
