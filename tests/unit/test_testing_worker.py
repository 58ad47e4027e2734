"""``start_worker`` of a test suite, on an application with settings of its own."""

from __future__ import annotations

import time

from pyqs_celery import Celery
from pyqs_celery.contrib.testing.worker import start_worker


def test_a_test_worker_stops_well_before_its_time_is_over():
    """An open poll waits ten seconds where nothing says how long, and a stop, which waits for it, was given no more."""
    app = Celery("mine", broker="memory://test-worker", set_as_current=False)

    with start_worker(app, perform_ping_check=False, shutdown_timeout=8.0):
        began = time.monotonic()

    assert time.monotonic() - began < 8


def test_tasks_that_are_defined_later_run_and_a_reload_imports_what_it_names(tmp_path, monkeypatch):
    """Celery's guide to testing has a test define a task and call ``celery_worker.reload()``."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "late_tasks.py").write_text("NUMBER = 1\n")
    app = Celery("mine", broker="memory://test-worker", backend="cache+memory://", set_as_current=False)

    with start_worker(app, perform_ping_check=False) as worker:

        @app.task(name="late.double")
        def double(number):
            return 2 * number

        worker.reload(["late_tasks"])
        assert double.delay(4).get(timeout=20) == 8

    import late_tasks

    assert late_tasks.NUMBER == 1
    worker.reload(["late_tasks"], reload=True, reloader=lambda module: setattr(module, "NUMBER", 2))
    assert late_tasks.NUMBER == 2
