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


NAMES = """
celery: Celery Task shared_task current_app current_task signals states schedules registry signature maybe_signature
    Signature subtask uuid bootsteps beat canvas result exceptions platforms local VERSION version_info __version__
    maybe_patch_concurrency bugreport
celery.signals: before_task_publish after_task_publish task_prerun task_postrun task_success task_failure task_retry
    task_revoked task_received task_unknown task_rejected task_internal_error setup_logging after_setup_logger
    after_setup_task_logger worker_init worker_ready worker_process_init worker_process_shutdown worker_shutting_down
    worker_shutdown celeryd_init celeryd_after_setup import_modules beat_init beat_embedded_init
celery.states: EXCEPTION_STATES READY_STATES UNREADY_STATES PROPAGATE_STATES PENDING SUCCESS
celery.result: AsyncResult EagerResult
celery.utils.log: get_task_logger get_logger
celery.schedules: crontab schedule solar BaseSchedule schedstate maybe_schedule
celery.app.task: Task Context
celery.app.trace: build_tracer task_has_custom
celery.platforms: close_open_fds
celery.local: Proxy
celery.concurrency.prefork: process_initializer process_destructor
celery.worker.request: Request
celery.beat: Scheduler ScheduleEntry PersistentScheduler Service SchedulingError DEFAULT_MAX_INTERVAL
celery.backends.base: DisabledBackend get_current_task BackendGetMetaError BackendStoreError
celery.utils.time: maybe_make_aware make_aware maybe_timedelta humanize_seconds remaining get_exponential_backoff_interval
    timezone utcoffset adjust_timestamp
celery.utils: cached_property get_full_cls_name uuid gen_unique_id nodesplit
celery.utils.serialization: b64encode b64decode
celery.utils.imports: symbol_by_name instantiate
celery.app: app_or_default default_app shared_task
celery.app.registry: TaskRegistry
celery.contrib.django.task: DjangoTask
celery.bootsteps: Step StartStopStep ConsumerStep
celery.app.log: TaskFormatter Logging
celery.app.defaults: DEFAULT_TASK_LOG_FMT DEFAULT_PROCESS_LOG_FMT DEFAULTS
celery._state: get_current_task get_current_app current_app connect_on_app_finalize _task_stack set_default_app
celery.utils.abstract: CallableTask
celery.utils.nodenames: default_nodename host_format
celery.utils.collections: force_mapping
celery.loaders.base: BaseLoader
"""


def test_the_names_that_packages_import(python):
    # those of results and canvas come with them
    python(
        INSTALL
        + "import importlib\n"
        + f"for line in {NAMES.strip().replace(chr(10) + '    ', ' ').splitlines()!r}:\n"
        + "    module, _, names = line.partition(':')\n"
        + "    found = importlib.import_module(module)\n"
        + "    for name in names.split():\n"
        + "        getattr(found, name)\n"
    )


@pytest.mark.parametrize("name", ["events", "task", "main"])
def test_names_that_mean_something_else_here_are_not_given_out(python, name):
    error = python(INSTALL + f"from celery import {name}", fails=True)

    assert "ImportError" in error
    assert "pyqs_celery/alias.py" in error


def test_our_own_embedded_server_keeps_its_name(python):
    shown = python(
        INSTALL
        + "import celery.local, pyqs_celery.local\nprint(celery.local.Proxy.__module__, pyqs_celery.local.__name__)"
    )

    assert shown.split()[1] == "pyqs_celery.local"
