"""Python files: imports of Celery that are left, and calls that need what SQS does not have."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from pyqs_celery.app.control import WHAT_TO_DO
from pyqs_celery.app.options import typo_of
from pyqs_celery.doctor.finding import Context, Finding, SourceFile
from pyqs_celery.doctor.names import (
    IMPORTERS,
    PATCHERS,
    TOP,
    has,
    is_celerys,
    is_missing_class,
    our_module,
    our_path,
    our_target,
)

SWAP = "run `pyqs-celery migrate PATH` and look at its diff, then --write"
ELSEWHERE = "see docs/integrations.rst for what there is instead, or keep this part on a Celery worker"
CONTROL_CALLS = frozenset({*WHAT_TO_DO, "inspect", "broadcast"}) - {"revoke", "terminate"}
DECORATORS = frozenset({"task", "shared_task", "periodic_task"})


def check_code(context: Context) -> Iterable[Finding]:
    """Everything that is found in Python files."""
    for source in context.python():
        if source.tree is None:
            yield Finding(
                "warning", "unreadable", source.shown, f"this is no Python that can be read: {source.error}", "mend it"
            )
            continue
        in_annotations = set(_annotations(source.tree))
        for node in ast.walk(source.tree):
            if node not in in_annotations:
                yield from _of_node(source, node)


def _annotations(tree: ast.Module) -> Iterator[ast.AST]:
    """The nodes in annotations: names there are those that imports bind, in texts too."""
    for node in ast.walk(tree):
        for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if annotation is not None:
                yield from ast.walk(annotation)


def _of_node(source: SourceFile, node: ast.AST) -> Iterator[Finding]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield from _imported(source, node, alias.name, ())
    elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
        yield from _imported(source, node, node.module, tuple(alias.name for alias in node.names))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield from _text(source, node, node.value)
    elif isinstance(node, ast.Call):
        yield from _names_a_module(source, node)
        yield from _control(source, node)
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        for place, option, meant in _misspelt(source, node):
            yield Finding(
                "warning",
                "task-option",
                place,
                f"the option {option} only becomes an attribute; it looks like {meant}",
                f"write {meant}",
            )


# -- imports -----------------------------------------------------------------------------------------


def _imported(source: SourceFile, node: ast.stmt | ast.expr, module: str, names: tuple[str, ...]) -> Iterator[Finding]:
    if is_celerys(module):
        yield _import(source, node, module, names)
    elif module.startswith("kombu.transport.SQS") or (module == "kombu.transport" and "SQS" in names):
        yield _transport(source, node)


def _import(source: SourceFile, node: ast.stmt | ast.expr, module: str, names: tuple[str, ...]) -> Finding:
    place = f"{source.shown}:{node.lineno}"
    missing = [name for name in names if not has(module, name)]
    if our_module(module) is None or missing:
        what = module if not missing else f"{', '.join(missing)} of {module}"
        sentence = f"{what} is imported, which pyqs-celery does not have"
        return Finding("error", "celery-internal", place, sentence, ELSEWHERE)
    return Finding("warning", "celery-import", place, f"{module} is still imported from Celery", SWAP)


def _transport(source: SourceFile, node: ast.stmt | ast.expr) -> Finding:
    return Finding(
        "error",
        "sqs-transport",
        f"{source.shown}:{node.lineno}",
        "kombu's SQS transport is extended here, and pyqs-celery does not use it",
        "give MessageGroupId, DelaySeconds and message_attributes to apply_async instead; an eta needs nothing",
    )


def _text(source: SourceFile, node: ast.Constant, text: str) -> Iterator[Finding]:
    """``"celery.beat:PersistentScheduler"`` in settings and elsewhere; queues and loggers are no such names."""
    place, ours = f"{source.shown}:{node.lineno}", our_path(text)
    if ours is not None:
        yield Finding("warning", "celery-path", place, f"the text {text!r} names a part of Celery", f"write {ours!r}")
    elif is_missing_class(text):
        sentence = f"the text {text!r} names a part of Celery which pyqs-celery does not have"
        yield Finding("error", "celery-internal", place, sentence, ELSEWHERE)


def _names_a_module(source: SourceFile, node: ast.Call) -> Iterator[Finding]:
    called, text = _called(node.func), _first_text(node)
    if text is None or not is_celerys(text):
        return
    if called in IMPORTERS:
        yield _import(source, node, text, ())
    elif called in PATCHERS and text != TOP and our_path(text) is None and not is_missing_class(text):
        place, ours = f"{source.shown}:{node.lineno}", our_target(text)
        if ours is None:
            sentence = f"{text} is named, which pyqs-celery does not have"
            yield Finding("error", "celery-internal", place, sentence, ELSEWHERE)
        else:
            yield Finding(
                "warning", "celery-path", place, f"the text {text!r} names a part of Celery", f"write {ours!r}"
            )


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _first_text(node: ast.Call) -> str | None:
    first = node.args[0] if node.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None


# -- calls -------------------------------------------------------------------------------------------


def _control(source: SourceFile, node: ast.Call) -> Iterator[Finding]:
    """Calls that need a broadcast: ``app.control.X()``, but for what marks in a result store can do; and events."""
    function = node.func
    if not isinstance(function, ast.Attribute):
        return
    place, owner = f"{source.shown}:{node.lineno}", _called(function.value)
    if owner == "control" and function.attr in CONTROL_CALLS:
        yield Finding(
            "warning",
            "remote-control",
            place,
            f".{function.attr}() reaches workers of the same user on the same host only, since SQS has no broadcast; where none "
            "can answer, Celery loses it without a word and pyqs-celery raises ControlUnavailable",
            WHAT_TO_DO.get(function.attr, "take it out, or catch ControlUnavailable"),
        )
    if function.attr == "Receiver" and owner == "events":
        yield Finding("info", "events", place, "events do not travel over SQS", "read the worker's log, or use signals")


def misspelt_options(context: Context) -> set[str]:
    """Options of tasks' decorators that look misspelt, wherever they are found in the files."""
    trees = ((source, source.tree) for source in context.python() if source.tree is not None)
    return {option for source, tree in trees for node in ast.walk(tree) for _, option, _ in _misspelt(source, node)}


def _misspelt(source: SourceFile, node: ast.AST) -> Iterator[tuple[str, str, str]]:
    """(place, option, what it was meant to be) of the decorators of a function."""
    for decorator in getattr(node, "decorator_list", ()):
        if not isinstance(decorator, ast.Call) or _called(decorator.func) not in DECORATORS:
            continue
        for keyword in decorator.keywords:
            meant = typo_of(keyword.arg) if keyword.arg else None
            if keyword.arg and meant:
                yield f"{source.shown}:{keyword.value.lineno}", keyword.arg, meant
