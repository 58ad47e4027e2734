"""Nothing of boto's is used that its makers may change on any day: no name of theirs that begins with an underscore.

Celery's consumers broke with releases of boto3 for this reason, for years.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.source_tree import PACKAGE

BOTO = ("boto3", "botocore", "s3transfer")
GIVEN_CLIENTS = {"client.py", "dynamodb.py", "dynamodb_table.py", "s3.py"}
"""Modules that import nothing of boto's and hold its clients."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def of_boto(module: str | None) -> bool:
    return (module or "").partition(".")[0] in BOTO


def private_uses(tree: ast.Module) -> Iterator[str]:
    """Names with an underscore that are imported from boto, or asked of what is not this module's own."""
    own = set(_defined(tree))
    theirs = {alias.asname or alias.name for node in _imports(tree) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and of_boto(node.module):
            parts = [*str(node.module).split("."), *(alias.name for alias in node.names)]
            yield from (f"{node.lineno}: import {part}" for part in parts if is_private(part))
        elif isinstance(node, ast.Import):
            parts = [part for alias in node.names if of_boto(alias.name) for part in alias.name.split(".")]
            yield from (f"{node.lineno}: import {part}" for part in parts if is_private(part))
        elif (
            isinstance(node, ast.Attribute) and is_private(node.attr) and not (_is_self(node.value) or node.attr in own)
        ):
            yield f"{node.lineno}: .{node.attr}"
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"getattr", "setattr", "hasattr"}:
            name = node.args[1]
            if isinstance(name, ast.Constant) and is_private(str(name.value)) and name.value not in own:
                yield f"{node.lineno}: {name.value!r}"
        elif isinstance(node, ast.ClassDef) and theirs & {ast.unparse(base).split(".")[0] for base in node.bases}:
            yield from _overridden(node)


def _is_self(node: ast.expr) -> bool:
    """True for ``self``, which is of boto's only in classes that are built on its."""
    return isinstance(node, ast.Name) and node.id in {"self", "cls"}


def _overridden(node: ast.ClassDef) -> Iterator[str]:
    """What a class that is built on one of boto's takes from it, or puts in its place, by a private name."""
    for inner in ast.walk(node):
        name = getattr(inner, "attr", None) or getattr(inner, "name", None)
        if isinstance(name, str) and is_private(name):
            yield f"{inner.lineno}: {name} in a class of boto's"


def _imports(tree: ast.Module) -> Iterator[ast.ImportFrom | ast.Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(of_boto(alias.name) for alias in node.names):
            yield node
        if isinstance(node, ast.ImportFrom) and of_boto(node.module):
            yield node


def _defined(tree: ast.Module) -> Iterator[str]:
    """Private names that the module defines: functions, fields of classes, attributes that are set on ``self``."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value):
            yield node.attr


MODULES = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if path.name in GIVEN_CLIENTS or any(_imports(ast.parse(path.read_text("utf-8"))))
)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_private_name_of_botos_is_used(path: Path):
    found = list(private_uses(ast.parse(path.read_text("utf-8"))))
    assert not found, f"{path}: {found}; use what botocore documents"


@pytest.mark.parametrize(
    "source",
    [
        "from botocore.endpoint import _is_ok",
        "import botocore._internal",
        "import boto3\nboto3.client('sqs')._request_signer",
        "client = make()\nclient._endpoint.host",
        "import boto3\ngetattr(boto3.client('sqs'), '_endpoint')",
        (
            "from botocore.credentials import RefreshableCredentials\n"
            "class Ours(RefreshableCredentials):\n    def _refresh(self):\n        pass"
        ),
        (
            "from botocore.credentials import RefreshableCredentials\n"
            "class Ours(RefreshableCredentials):\n    def run(self):\n        self._refresh()\n    def _refresh(self): ..."
        ),
    ],
)
def test_the_check_sees_each_way_to_use_one(source: str):
    assert list(private_uses(ast.parse(source)))


def test_the_check_lets_our_own_pass():
    source = "import boto3\nclass Ours:\n    def __init__(self):\n        self._client = boto3.client('sqs')\n"
    assert not list(private_uses(ast.parse(source)))
    assert len(MODULES) > 4
