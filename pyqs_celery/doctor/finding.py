"""What the doctor says, and what it looks at."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
"""From the worst on: work would be lost or not start; behaviour changes; good to know."""
SKIPPED_FOLDERS = frozenset(
    ".git .hg .tox .nox .venv venv env node_modules __pycache__ site-packages .mypy_cache .ruff_cache build dist .eggs".split()
)
LARGEST_FILE = 2_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that will differ: how bad, its code, where (``file:line`` or a name), what, and what to do."""

    severity: Severity
    code: str
    place: str
    sentence: str
    fix: str

    def at_least(self, severity: Severity) -> bool:
        """True if it is as bad as ``severity`` or worse."""
        return SEVERITIES.index(self.severity) <= SEVERITIES.index(severity)


@dataclass(slots=True)
class SourceFile:
    """A Python file: its path as shown, and its tree, None with ``error`` set if it is no Python."""

    shown: str
    tree: ast.Module | None
    error: str = ""


@dataclass(slots=True)
class Context:
    """What the checks look at. ``app`` is None if only files are looked at; ``flags`` are the worker's by name.

    ``queues`` are the application's as ``broker.queues.FoundQueues``, None if SQS was not asked or did not answer, with
    the reason in ``unreachable``.
    """

    paths: tuple[Path, ...] = ()
    app: Celery | None = None
    flags: frozenset[str] = frozenset()
    switches: frozenset[str] = frozenset()
    queues: Any = None
    unreachable: str = ""
    _python: list[SourceFile] | None = field(default=None, repr=False)

    def files(self) -> Iterator[tuple[Path, str]]:
        """Every file below the paths, with its path as shown."""
        for root in self.paths:
            found = [root] if root.is_file() else sorted(root.rglob("*"))
            for path in found:
                parts = path.relative_to(root).parts if path != root else ()
                if not path.is_file() or SKIPPED_FOLDERS & set(parts) or path.stat().st_size > LARGEST_FILE:
                    continue
                yield path, str(path.relative_to(root) if path != root else path)

    def python(self) -> list[SourceFile]:
        """The Python files, parsed once."""
        if self._python is None:
            self._python = [_parsed(path, shown) for path, shown in self.files() if path.suffix == ".py"]
        return self._python


def _parsed(path: Path, shown: str) -> SourceFile:
    try:
        return SourceFile(shown, ast.parse(path.read_bytes()))
    except (SyntaxError, ValueError) as exc:
        return SourceFile(shown, None, str(exc))
