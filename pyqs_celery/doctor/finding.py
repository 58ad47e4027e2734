"""What the doctor says, and what it looks at."""

from __future__ import annotations

import ast
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
"""From the worst on: work would be lost or not start; behaviour changes; good to know."""
SKIPPED_FOLDERS = frozenset(
    ".git .hg .tox .nox .eggs node_modules __pycache__ site-packages .mypy_cache .ruff_cache .pytest_cache".split()
)
BUILT_FOLDERS = frozenset({"build", "dist"})
LARGEST_FILE = 2_000_000
_LINE = re.compile(r"^(.*):(\d+)$")


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

    @property
    def order(self) -> tuple[int, str, int, str, str]:
        """The worst first, then by place, lines by number."""
        line = _LINE.match(self.place)
        place, number = (line[1], int(line[2])) if line else (self.place, 0)
        return SEVERITIES.index(self.severity), place, number, self.code, self.sentence


@dataclass(slots=True)
class SourceFile:
    """A Python file: its path as shown, and its tree, None with ``error`` set if it is no Python."""

    shown: str
    tree: ast.Module | None
    error: str = ""


@dataclass(slots=True)
class Context:
    """What the checks look at. ``app`` is None if only files are looked at.

    Of the command line: ``flags`` are the worker's by name, ``switches`` those of them without a value, ``idle_flags``
    those without effect and why, ``gone`` the sub-commands of Celery's that are not here and why. ``queues`` are the
    application's as ``broker.queues.FoundQueues``, None if SQS was not asked or did not answer, with the reason in
    ``unreachable``; ``retention`` is how many seconds each keeps a message, by SQS name.
    """

    paths: tuple[Path, ...] = ()
    app: Celery | None = None
    flags: frozenset[str] = frozenset()
    switches: frozenset[str] = frozenset()
    idle_flags: Mapping[str, str] = field(default_factory=dict)
    gone: Mapping[str, str] = field(default_factory=dict)
    queues: Any = None
    unreachable: str = ""
    retention: Mapping[str, int] = field(default_factory=dict)
    _python: list[SourceFile] | None = field(default=None, repr=False)

    def files(self) -> Iterator[tuple[Path, str]]:
        """Every file below the paths once, with its path as shown: beginning as the path that was given."""
        seen = set()
        for root in self.paths:
            for path in [root] if root.is_file() else _below(root):
                real = path.resolve()
                if real not in seen and path.is_file() and path.stat().st_size <= LARGEST_FILE:
                    seen.add(real)
                    yield path, str(path)

    def python(self) -> list[SourceFile]:
        """The Python files, parsed once."""
        if self._python is None:
            self._python = [_parsed(path, shown) for path, shown in self.files() if path.suffix == ".py"]
        return self._python


def _below(root: Path) -> Iterator[Path]:
    """The files of a tree in order, without those of tools, of virtual environments and of builds."""
    for folder, names, files in os.walk(root):
        names[:] = sorted(name for name in names if not _is_skipped(Path(folder, name)))
        yield from (Path(folder, name) for name in sorted(files))


def _is_skipped(folder: Path) -> bool:
    # a package of the project's may well be called build, dist or env
    is_built = folder.name in BUILT_FOLDERS and not (folder / "__init__.py").exists()
    return folder.name in SKIPPED_FOLDERS or is_built or (folder / "pyvenv.cfg").exists()


def _parsed(path: Path, shown: str) -> SourceFile:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Python thinks of the project's strings is no finding of ours
            return SourceFile(shown, ast.parse(path.read_bytes()))
    except (SyntaxError, ValueError, RecursionError) as exc:
        return SourceFile(shown, None, str(exc))
