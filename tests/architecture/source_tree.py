"""Reads the package's sources: modules, what each imports and when, how long its parts are."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "pyqs_celery"
NOT_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


@dataclass(frozen=True)
class Import:
    """One imported module: its full name, the line, and whether only type checkers or only a function load it."""

    target: str
    line: int
    typing_only: bool
    in_function: bool


class Module:
    """One source file of the package."""

    def __init__(self, path: Path) -> None:
        self.path = path
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        self.name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        self.text = path.read_text("utf-8")
        self.tree = ast.parse(self.text)

    @cached_property
    def imports(self) -> list[Import]:
        return list(_imports(self.tree, typing_only=False, in_function=False))

    @cached_property
    def code_lines(self) -> set[int]:
        """Numbers of lines that hold a token which is neither comment nor docstring."""
        lines: set[int] = set()
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type not in NOT_CODE:
                lines.update(range(token.start[0], token.end[0] + 1))
        for node in ast.walk(self.tree):
            docstring = _docstring(node)
            if docstring is not None:
                lines.difference_update(range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1))
        return lines

    def length(self, node: ast.AST) -> int:
        """Code lines of one function or class."""
        return len(self.code_lines & set(range(node.lineno, node.end_lineno + 1)))

    @cached_property
    def is_facade(self) -> bool:
        """Whether the module only hands on other modules' names."""
        kinds = [node for node in self.tree.body if not _is_docstring(node)]
        only_names = all(isinstance(node, (ast.Import, ast.ImportFrom)) or _sets_all(node) for node in kinds)
        return only_names and any(isinstance(node, ast.ImportFrom) and node.module != "__future__" for node in kinds)


def modules() -> list[Module]:
    """Every module of the package."""
    return [Module(path) for path in sorted(PACKAGE.rglob("*.py"))]


def _imports(node: ast.AST, typing_only: bool, in_function: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, typing_only, in_function)
        elif isinstance(child, ast.ImportFrom):
            for alias in child.names:
                yield Import(_resolve(child.module or "", alias.name), child.lineno, typing_only, in_function)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            for statement in child.body:
                yield from _imports(ast.Module([statement], []), typing_only=True, in_function=in_function)
            for statement in child.orelse:
                yield from _imports(ast.Module([statement], []), typing_only, in_function)
        else:
            inside = in_function or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from _imports(child, typing_only, inside)


def _resolve(module: str, name: str) -> str:
    """``from a import b`` loads a.b where that is a module of ours or of kombu, else a."""
    if module.startswith("pyqs_celery"):
        base = PACKAGE.parent.joinpath(*module.split("."))
        if (base / f"{name}.py").exists() or (base / name / "__init__.py").exists():
            return f"{module}.{name}"
    return f"{module}.{name}" if module in ("kombu", "kombu.utils") and name.islower() else module


def _docstring(node: ast.AST) -> ast.Expr | None:
    if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        return None
    first = node.body[0] if node.body else None
    return first if _is_docstring(first) else None


def _is_docstring(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _sets_all(node: ast.AST) -> bool:
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    return isinstance(node, (ast.Assign, ast.AnnAssign)) and getattr(targets[0], "id", "") == "__all__"
