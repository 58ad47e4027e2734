"""``install_as_celery()``: one module under two names, with and without the real Celery, in any order."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from pyqs_celery.alias import MODULES
from tests.support.embedded import ROOT


@pytest.fixture
def python(tmp_path):
    """``python(code)`` runs code in a fresh interpreter; ``REAL`` on its path is a stand-in for the real Celery."""
    real = tmp_path / "real" / "celery"
    (real / "app").mkdir(parents=True)
    (real / "__init__.py").write_text("real = True\n__version__ = '4.0'\n")
    (real / "app" / "__init__.py").write_text("real = True\n")
    (real / "events.py").write_text("real = True\n")

    def run(code, *, with_real=False, fails=False):
        path = [str(ROOT), *([str(real.parent)] if with_real else [])]
        done = subprocess.run(
            [sys.executable, "-W", "error::SyntaxWarning", "-c", textwrap.dedent(code)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode != 0) is fails, done.stdout + done.stderr
        return done.stderr if fails else done.stdout

    return run


INSTALL = "import pyqs_celery; pyqs_celery.install_as_celery()\n"


@pytest.mark.parametrize("with_real", [False, True])
def test_every_pair_is_one_module(python, with_real):
    code = f"""
        import importlib, pyqs_celery
        pyqs_celery.install_as_celery()
        pairs = {dict(MODULES)!r}
        skipped = {{"celery.contrib.pytest", "celery.contrib.django.task"}}
        for theirs, ours in pairs.items():
            if theirs in skipped:
                continue
            assert importlib.import_module(theirs) is importlib.import_module(ours), theirs
        print(len(pairs))
    """

    assert int(python(code, with_real=with_real)) == len(MODULES)


def test_the_top_module_has_our_names_and_celerys_version(python):
    shown = python(
        INSTALL
        + "import celery, pyqs_celery\n"
        + "assert celery.Celery is pyqs_celery.Celery and celery.beat is pyqs_celery.beat\n"
        + "from celery import registry, shared_task, current_app, bootsteps, platforms, local\n"
        + "assert registry.tasks is current_app.tasks\n"
        + "print(celery.__version__, pyqs_celery.__version__, celery.version_info[:2])"
    )

    assert shown.split() == ["5.7.0", "0.1.0", "(5,", "7)"]


def test_a_patch_under_one_name_is_seen_under_the_other(python):
    shown = python(
        INSTALL
        + "import celery.app.trace, pyqs_celery.app.trace\n"
        + "celery.app.trace.build_tracer = 'patched'\n"
        + "print(pyqs_celery.app.trace.build_tracer)"
    )

    assert shown.strip() == "patched"


def test_hooks_of_agents_see_the_import_under_celerys_name(python):
    # given an agent that wraps loaders, as post-import hooks do, before we are installed
    code = """
        import importlib.abc, importlib.util, sys
        seen = []
        class Hook(importlib.abc.MetaPathFinder):
            busy = False
            def find_spec(self, name, path, target=None):
                if Hook.busy or not name.startswith("celery"):
                    return None
                Hook.busy = True
                try:
                    spec = importlib.util.find_spec(name)
                finally:
                    Hook.busy = False
                inner = spec.loader.exec_module
                def exec_module(module):
                    inner(module)
                    seen.append(module.__name__)
                spec.loader.exec_module = exec_module
                return spec
        sys.meta_path.insert(0, Hook())
        import pyqs_celery
        pyqs_celery.install_as_celery()
        print(*seen)
    """

    seen = python(code).split()

    assert {"celery.app.trace", "celery.local", "celery.worker", "celery.concurrency.prefork"} <= set(seen)


def test_what_the_real_one_has_and_we_have_not_is_not_taken_from_it(python):
    error = python(INSTALL + "import celery.events", with_real=True, fails=True)

    assert "pyqs-celery stands in for Celery" in error
    assert "docs/integrations.rst" in error


def test_a_name_we_do_not_have_says_whose_it_is(python):
    error = python(INSTALL + "import celery; celery.no_such_thing", fails=True)

    assert "pyqs-celery stands in for Celery here and has no 'no_such_thing'" in error


def test_the_real_one_imported_before_is_forgotten_with_a_warning(python):
    shown = python(
        """
        import warnings, celery, celery.app
        import pyqs_celery
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            pyqs_celery.install_as_celery()
        import celery
        from celery.app import Celery
        print(hasattr(celery, "real"), Celery is pyqs_celery.Celery, "call it earlier" in str(told[0].message))
        """,
        with_real=True,
    )

    assert shown.split() == ["False", "True", "True"]


def test_installing_twice_changes_nothing(python):
    shown = python(
        INSTALL
        + "import sys, celery; before = celery, len(sys.meta_path)\n"
        + INSTALL
        + "import celery; print(before == (celery, len(sys.meta_path)))"
    )

    assert shown.strip() == "True"


def test_our_own_embedded_server_keeps_its_name(python):
    shown = python(
        INSTALL
        + "import celery.local, pyqs_celery.local\nprint(celery.local.Proxy.__module__, pyqs_celery.local.__name__)"
    )

    assert shown.split()[1] == "pyqs_celery.local"
