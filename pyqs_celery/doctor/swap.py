"""The swap of a file's imports from Celery to this package; every other byte stays.

Needs libcst, the extra ``migrate``. It reads the file and says where things stand; the file's own text is then changed at
those places, and only there.
"""

from __future__ import annotations

import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pyqs_celery.doctor.names import IMPORTERS, PATCHERS, TOP, has, is_celerys, our_module, our_path, our_target

_MARK = b"\xef\xbb\xbf"


@dataclass(slots=True)
class Swapped:
    """A file after the swap: its bytes, and what was left as (line, sentence)."""

    content: bytes
    left: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Edit:
    """What becomes of one node: new text in its place, or what of it has to be left as it is."""

    node: Any
    new: str = ""
    missing: str = ""


def swap(content: bytes) -> Swapped:
    """Swap the imports of one file. Raises ValueError for what is no Python, ImportError without libcst."""
    import libcst as cst
    from libcst.metadata import ByteSpanPositionProvider, MetadataWrapper, PositionProvider

    if TOP.encode() not in content:
        return Swapped(content)
    mark = _MARK if content.startswith(_MARK) else b""
    text, encoding = _decoded(content[len(mark) :])
    # libcst drops form feeds at the very start
    feeds = len(text) - len(text.lstrip("\f"))
    try:
        module = cst.parse_module(text[feeds:])
    except (cst.ParserSyntaxError, RecursionError) as exc:
        raise ValueError(f"this is no Python that can be read: {exc}".splitlines()[0]) from exc
    edits = list(_edits(cst, module))
    if not edits:
        return Swapped(content)
    wrapper = MetadataWrapper(module, unsafe_skip_copy=True)
    spans, lines = wrapper.resolve(ByteSpanPositionProvider), wrapper.resolve(PositionProvider)
    changes = [(spans[edit.node].start, spans[edit.node].length, edit.new) for edit in edits if not edit.missing]
    raw = _changed(text[feeds:].encode("utf-8"), module.code.encode("utf-8"), changes)
    left = [
        (lines[e.node].start.line, f"{e.missing} is left: pyqs-celery does not have it") for e in edits if e.missing
    ]
    return Swapped(mark + text[:feeds].encode(encoding) + raw.decode("utf-8").encode(encoding), sorted(left))


def _changed(raw: bytes, as_read: bytes, changes: list[tuple[int, int, str]]) -> bytes:
    """``raw`` with (begin, length, new text) put in. Raises ValueError if libcst read something else than stands there."""
    end = max((begin + length for begin, length, _ in changes), default=0)
    if raw[:end] != as_read[:end]:
        raise ValueError("libcst does not give this file back byte for byte; change its imports by hand")
    for begin, length, new in sorted(changes, reverse=True):
        raw = raw[:begin] + new.encode("utf-8") + raw[begin + length :]
    return raw


def _decoded(raw: bytes) -> tuple[str, str]:
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
        return raw.decode(encoding), encoding
    except (SyntaxError, UnicodeDecodeError, LookupError) as exc:
        raise ValueError(f"this is no Python that can be read: {exc}") from exc


def _edits(cst: Any, module: Any) -> Iterator[Edit]:
    """All edits of a module. ``done`` holds nodes that are not to be looked at for themselves."""
    bound = dict(_bound(cst, module))
    done: set[int] = set()
    for node in _walk(module):
        found: Iterator[Edit] = iter(())
        if id(node) in done:
            continue
        if isinstance(node, (cst.Import, cst.ImportFrom)):
            found = _edit_import(cst, node) if isinstance(node, cst.Import) else _edit_from(cst, node)
            done.update(map(id, _walk(node)))
        elif isinstance(node, cst.Annotation):
            # the names in annotations are those that imports bind, in texts too
            done.update(id(inner) for inner in _walk(node) if isinstance(inner, cst.SimpleString))
        elif isinstance(node, cst.Call):
            found = _edit_call(cst, node, done)
        elif isinstance(node, cst.SimpleString):
            found = _edit_string(node)
        elif isinstance(node, cst.Attribute):
            found = _use(cst, node, bound)
        yield from found


def _walk(node: Any) -> Iterator[Any]:
    """Every node, outer ones first. Deep files are common (long chains of ``or``), so there is no recursion here."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(reversed(node.children))


def _bound(cst: Any, module: Any) -> Iterator[tuple[str, str]]:
    """The names that ``import`` binds to modules of Celery's, and which."""
    for node in _walk(module):
        if isinstance(node, cst.Import):
            for alias in node.names:
                name = _dotted(cst, alias.name)
                if is_celerys(name):
                    yield (alias.asname.name.value, name) if alias.asname else (TOP, TOP)


def _edit_import(cst: Any, node: Any) -> Iterator[Edit]:
    names = [_dotted(cst, alias.name) for alias in node.names]
    missing = [name for name in names if is_celerys(name) and our_module(name) is None]
    if missing:
        yield Edit(node, missing=", ".join(missing))
        return
    # ``import celery.x`` binds ``celery``; the one import that follows keeps it bound
    plain = [alias for alias, name in zip(node.names, names, strict=True) if is_celerys(name) and not alias.asname]
    for alias, name in zip(node.names, names, strict=True):
        if not is_celerys(name):
            continue
        words = [str(our_module(name))] if alias.asname or name != TOP else []
        if plain and alias is plain[-1]:
            words.append(f"pyqs_celery as {TOP}")
        # ``import celery, celery.x``: the later one binds the name, so nothing is left of the first but its place
        yield Edit(alias.name, new=", ".join(words) or "pyqs_celery")


def _edit_from(cst: Any, node: Any) -> Iterator[Edit]:
    if node.relative or node.module is None:
        return
    module = _dotted(cst, node.module)
    if not is_celerys(module):
        return
    names = ["*"] if isinstance(node.names, cst.ImportStar) else [alias.name.value for alias in node.names]
    ours = our_module(module)
    missing = [name for name in names if not has(module, name)]
    if ours is None or missing:
        yield Edit(node, missing=", ".join(f"{module}.{name}" for name in missing))
    else:
        yield Edit(node.module, new=ours)


def _edit_call(cst: Any, node: Any, done: set[int]) -> Iterator[Edit]:
    """``import_module("celery.x")`` and ``patch("celery.x.Y")``."""
    called = node.func.attr.value if isinstance(node.func, cst.Attribute) else getattr(node.func, "value", "")
    if called not in IMPORTERS | PATCHERS or not node.args:
        return
    value = node.args[0].value
    if not isinstance(value, cst.SimpleString) or not isinstance(value.evaluated_value, str):
        return
    name = value.evaluated_value
    if not is_celerys(name) or (called in PATCHERS and name == TOP):
        return
    done.add(id(value))
    ours = our_module(name) if called in IMPORTERS else our_target(name)
    yield Edit(value, missing=name) if ours is None else Edit(value, new=value.value.replace(name, ours, 1))


def _edit_string(node: Any) -> Iterator[Edit]:
    name = node.evaluated_value
    ours = our_path(name) if isinstance(name, str) else None
    if ours is not None and name in node.value:
        yield Edit(node, new=node.value.replace(name, ours, 1))


def _use(cst: Any, node: Any, bound: dict[str, str]) -> Iterator[Edit]:
    """``celery.chain`` by a name that ``import celery`` bound: told if it leads to what is not here."""
    if not isinstance(node.value, cst.Name) and not isinstance(node.value, cst.Attribute):
        return
    name = _dotted(cst, node)
    first, _, rest = name.partition(".")
    if first not in bound:
        return
    module, _, attribute = f"{bound[first]}.{rest}".rpartition(".")
    if our_module(module) is not None and not has(module, attribute):
        yield Edit(node, missing=f"{module}.{attribute}")


def _dotted(cst: Any, node: Any) -> str:
    """``a.b.c``, or an empty text for what is no dotted name (``f().b``)."""
    parts = []
    while isinstance(node, cst.Attribute):
        parts.append(node.attr.value)
        node = node.value
    return ".".join([node.value, *reversed(parts)]) if isinstance(node, cst.Name) else ""
