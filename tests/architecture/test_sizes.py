"""How big a thing may grow before it is two things."""

from __future__ import annotations

import ast

import pytest

from tests.architecture.source_tree import Module, modules

MODULE_LINES = 400
FUNCTION_LINES = 50
PUBLIC_METHODS = 20

# Classes whose surface Celery fixed: each with the reason.
WIDE_CLASSES = {
    "pyqs_celery.app.task.Task": "Celery's interface: applications call, override and inherit these by name",
    "pyqs_celery.app.surface.Surface": "the rest of the same interface",
    "pyqs_celery.backends.backend.Backend": "Celery's interface: stores of others derive from it and override by name",
    "pyqs_celery.beat.scheduler.Scheduler": "Celery's interface: schedulers of others derive from it and override by name",
    "pyqs_celery.app.base.Celery": "applications call and override these methods by name; each is a few lines",
}

MODULES = modules()


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_a_module_has_one_reason_to_exist(module: Module) -> None:
    size = len(module.code_lines)

    assert size <= MODULE_LINES, (
        f"{module.name} has {size} code lines; the limit is {MODULE_LINES} without comments and docstrings: "
        "split it by reason to change"
    )


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_a_function_fits_on_a_screen(module: Module) -> None:
    long = {
        node.name: module.length(node)
        for node in ast.walk(module.tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and module.length(node) > FUNCTION_LINES
    }

    assert not long, f"functions of {module.name} over {FUNCTION_LINES} code lines, each is two functions: {long}"


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_a_class_can_be_held_in_the_head(module: Module) -> None:
    wide = {
        node.name: count
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
        and f"{module.name}.{node.name}" not in WIDE_CLASSES
        and (count := len(public_methods(node))) > PUBLIC_METHODS
    }

    assert not wide, f"classes of {module.name} with more than {PUBLIC_METHODS} public methods: {wide}"


def public_methods(node: ast.ClassDef) -> set[str]:
    return {
        member.name
        for member in node.body
        if isinstance(member, (ast.FunctionDef, ast.AsyncFunctionDef))
        and not member.name.startswith("_")
        and not any("property" in ast.dump(decorator) for decorator in member.decorator_list)
    }
