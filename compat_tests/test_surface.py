"""Every path that is promised exists here, and where Celery is at hand it exists there too."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from compat_tests.conftest import PEER

SURFACE = tomllib.loads((Path(__file__).parent / "surface.toml").read_text())
NAMES = [(module, name) for module, row in SURFACE.items() for name in row["names"]]


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_the_name_exists_here(module, name):
    found = import_module(module.replace("celery", "pyqs_celery", 1))

    assert getattr(found, name) is not None


def test_the_names_exist_in_celery(peer_version):
    missing_before = {(5, 2): set(), (5, 4): set()}.get(peer_version[:2], set())
    script = "\n".join(
        f"import {module}; assert hasattr({module}, {name!r}) or {name!r} in {sorted(missing_before)!r}, {f'{module}.{name}'!r}"
        for module, name in NAMES
    )

    done = subprocess.run([PEER, "-c", script], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr[-500:]
