"""Python files: imports of Celery that are left, and calls that need what SQS does not have."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from pyqs_celery.doctor.finding import Context, Finding, SourceFile
from pyqs_celery.doctor.names import IMPORTERS, TOP, has, our_module, our_path

SWAP = "run `pyqs-celery migrate PATH` and look at its diff, then --write"
CONTROL_CALLS = {
    "revoke",
    "broadcast",
    "inspect",
    "terminate",
    "cancel_consumer",
    "add_consumer",
    "pool_grow",
    "pool_shrink",
}


def check_code(context: Context) -> Iterable[Finding]:
    """Everything that is found in Python files."""
    for source in context.python():
        if source.tree is None:
            yield Finding(
                "warning", "unreadable", source.shown, f"this is no Python that can be read: {source.error}", "mend it"
            )
            continue
        for node in ast.walk(source.tree):
            yield from _of_node(source, node)


def _of_node(source: SourceFile, node: ast.AST) -> Iterator[Finding]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield from _imported(source, node, alias.name, ())
    elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
        yield from _imported(source, node, node.module, tuple(alias.name for alias in node.names))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        ours = our_path(node.value)
        if ours is not None:
            place = f"{source.shown}:{node.lineno}"
            sentence = f"the text {node.value!r} names a part of Celery"
            yield Finding("warning", "celery-path", place, sentence, f"write {ours!r}")
    elif isinstance(node, ast.Call):
        yield from _call(source, node)


def _imported(source: SourceFile, node: ast.stmt | ast.expr, module: str, names: tuple[str, ...]) -> Iterator[Finding]:
    if module.split(".", maxsplit=1)[0] == TOP:
        yield _import(source, node, module, names)
    elif module.startswith("kombu.transport.SQS"):
        yield _transport(source, node)


def _import(source: SourceFile, node: ast.stmt | ast.expr, module: str, names: tuple[str, ...]) -> Finding:
    place = f"{source.shown}:{node.lineno}"
    missing = [name for name in names if not has(module, name)]
    if our_module(module) is None or missing:
        what = module if not missing else f"{', '.join(missing)} of {module}"
        return Finding(
            "error",
            "celery-internal",
            place,
            f"{what} is imported, which pyqs-celery does not have",
            "see docs/integrations.rst for what there is instead, or keep this part on a Celery worker",
        )
    return Finding("warning", "celery-import", place, f"{module} is still imported from Celery", SWAP)


def _transport(source: SourceFile, node: ast.stmt | ast.expr) -> Finding:
    return Finding(
        "error",
        "sqs-transport",
        f"{source.shown}:{node.lineno}",
        "kombu's SQS transport is extended here, and pyqs-celery does not use it",
        "give MessageGroupId, DelaySeconds and message_attributes to apply_async instead; an eta needs nothing",
    )


def _call(source: SourceFile, node: ast.Call) -> Iterator[Finding]:
    function = node.func
    called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    first = node.args[0] if node.args else None
    if called in IMPORTERS and isinstance(first, ast.Constant) and isinstance(first.value, str):
        yield from _imported(source, node, first.value, ())
    if not isinstance(function, ast.Attribute):
        return
    place = f"{source.shown}:{node.lineno}"
    by_control = isinstance(function.value, ast.Attribute) and function.value.attr == "control"
    if by_control and function.attr != "purge":
        yield Finding(
            "warning",
            "remote-control",
            place,
            f".{function.attr}() needs a broadcast to all workers, which SQS does not have; Celery loses it without a word, "
            "pyqs-celery raises ControlUnavailable",
            "take it out, or catch ControlUnavailable; give tasks expires= in place of revoking them",
        )
    if function.attr == "Receiver" and isinstance(function.value, ast.Attribute) and function.value.attr == "events":
        yield Finding("info", "events", place, "events do not travel over SQS", "read the worker's log, or use signals")
