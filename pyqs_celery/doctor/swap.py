"""The swap of a file's imports from Celery to this package; every other byte stays.

Needs libcst, the extra ``migrate``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pyqs_celery.doctor.names import IMPORTERS, TOP, has, our_module, our_path
from pyqs_celery.exceptions import ImproperlyConfigured


def _libcst() -> Any:
    try:
        import libcst
    except ImportError as exc:
        raise ImproperlyConfigured("migrate needs libcst: pip install 'pyqs-celery[migrate]'") from exc
    return libcst


@dataclass(slots=True)
class Swapped:
    """A file after the swap: its bytes, and what was left as (line, sentence)."""

    content: bytes
    left: list[tuple[int, str]] = field(default_factory=list)


def swap(content: bytes) -> Swapped:
    """Swap the imports of one file. Raises ValueError for what is no Python."""
    cst = _libcst()
    if TOP.encode() not in content:
        return Swapped(content)
    mark = b"\xef\xbb\xbf" if content.startswith(b"\xef\xbb\xbf") else b""
    try:
        module = cst.parse_module(content[len(mark) :])
    except (cst.ParserSyntaxError, UnicodeDecodeError, LookupError) as exc:
        raise ValueError(f"this is no Python that can be read: {exc}".splitlines()[0]) from exc
    finder = _finder(cst)
    positions = cst.metadata.MetadataWrapper(module, unsafe_skip_copy=True)
    positions.visit(finder)
    text = content[len(mark) :].decode(module.encoding)
    starts = _line_starts(text)
    for begin, end, new in sorted(finder.edits, reverse=True):
        text = text[: starts[begin[0] - 1] + begin[1]] + new + text[starts[end[0] - 1] + end[1] :]
    return Swapped(mark + text.encode(module.encoding), finder.left)


def _line_starts(text: str) -> list[int]:
    """Where each line begins, by Python's idea of a line: after a newline, a carriage return, or both."""
    return [0, *(found.end() for found in re.finditer(r"\r\n|\r|\n", text))]


def _finder(cst: Any) -> Any:
    """The visitor that gathers edits; a function because its class derives from libcst's, which is imported late."""

    class Finder(cst.CSTVisitor):  # type: ignore[misc]
        METADATA_DEPENDENCIES = (cst.metadata.PositionProvider,)

        def __init__(self) -> None:
            super().__init__()
            self.edits: list[tuple[tuple[int, int], tuple[int, int], str]] = []
            self.left: list[tuple[int, str]] = []

        def _take(self, node: Any, edit: tuple[Any, Any, str] | None) -> None:
            """Note an edit (the node it replaces, the node it puts there, or what has to be left)."""
            if edit is None:
                return
            old, new, missing = edit
            where = self.get_metadata(cst.metadata.PositionProvider, old if old is not None else node)
            if missing:
                self.left.append((where.start.line, f"{missing} is left: pyqs-celery does not have it"))
                return
            begin, end = (where.start.line, where.start.column), (where.end.line, where.end.column)
            self.edits.append((begin, end, cst.Module(body=[]).code_for_node(new)))

        def visit_Import(self, node: Any) -> None:  # noqa: N802 - libcst's name
            self._take(node, _edit_import(cst, node))

        def visit_ImportFrom(self, node: Any) -> None:  # noqa: N802 - libcst's name
            self._take(node, _edit_from(cst, node))

        def visit_Call(self, node: Any) -> None:  # noqa: N802 - libcst's name
            self._take(node, _edit_call(cst, node))

        def visit_SimpleString(self, node: Any) -> None:  # noqa: N802 - libcst's name
            text = node.evaluated_value
            ours = our_path(text) if isinstance(text, str) else None
            self._take(node, None if ours is None else (node, _with_text(node, text, ours), ""))

    return Finder()


def _edit_import(cst: Any, node: Any) -> tuple[Any, Any, str] | None:
    names = [_dotted(cst, alias.name) for alias in node.names]
    ours = [name for name in names if name.split(".")[0] == TOP]
    if not ours:
        return None
    missing = [name for name in ours if our_module(name) is None]
    if missing:
        return node, None, ", ".join(missing)
    aliases = [new for alias in node.names for new in _aliases(cst, alias)]
    between = [
        alias if isinstance(alias.comma, cst.Comma) else alias.with_changes(comma=_comma(cst)) for alias in aliases
    ]
    last = aliases[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
    return node, node.with_changes(names=[*between[:-1], last]), ""


def _edit_from(cst: Any, node: Any) -> tuple[Any, Any, str] | None:
    if node.relative or node.module is None:
        return None
    module = _dotted(cst, node.module)
    if module.split(".")[0] != TOP:
        return None
    names = ["*"] if isinstance(node.names, cst.ImportStar) else [alias.name.value for alias in node.names]
    missing = [name for name in names if not has(module, name)]
    ours = our_module(module)
    if ours is None or missing:
        return node, None, f"{module}.{', '.join(missing)}" if missing else module
    return node.module, _name(cst, ours), ""


def _edit_call(cst: Any, node: Any) -> tuple[Any, Any, str] | None:
    called = node.func.attr.value if isinstance(node.func, cst.Attribute) else getattr(node.func, "value", "")
    if called not in IMPORTERS or not node.args:
        return None
    value = node.args[0].value
    if not isinstance(value, cst.SimpleString) or not isinstance(value.evaluated_value, str):
        return None
    name = value.evaluated_value
    if name.split(".")[0] != TOP:
        return None
    ours = our_module(name)
    return (value, None, name) if ours is None else (value, _with_text(value, name, ours), "")


def _comma(cst: Any) -> Any:
    return cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))


def _with_text(node: Any, text: str, ours: str) -> Any:
    return node.with_changes(value=node.value.replace(text, ours, 1))


def _aliases(cst: Any, alias: Any) -> Iterator[Any]:
    """What one name of an ``import`` becomes; ``import celery.x`` binds ``celery``, so the name is kept with ``as``."""
    name = _dotted(cst, alias.name)
    if name.split(".")[0] != TOP:
        yield alias
        return
    ours = _name(cst, str(our_module(name)))
    if alias.asname is not None:
        yield alias.with_changes(name=ours)
        return
    if name != TOP:
        yield alias.with_changes(name=ours, comma=_comma(cst))
    kept = cst.AsName(name=cst.Name(TOP))
    yield alias.with_changes(name=_name(cst, "pyqs_celery"), asname=kept)


def _dotted(cst: Any, node: Any) -> str:
    if isinstance(node, cst.Attribute):
        return f"{_dotted(cst, node.value)}.{node.attr.value}"
    return str(node.value)


def _name(cst: Any, dotted: str) -> Any:
    first, *rest = dotted.split(".")
    found = cst.Name(first)
    for part in rest:
        found = cst.Attribute(found, cst.Name(part))
    return found
