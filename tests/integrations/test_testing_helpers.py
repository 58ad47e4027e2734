"""What users test with: eager mode, a worker in a thread, Celery's fixtures."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import uuid

import pytest

from pyqs_celery.contrib.testing.app import TestApp, setup_default_app
from pyqs_celery.contrib.testing.worker import start_worker
from pyqs_celery.exceptions import ControlUnavailable, ImproperlyConfigured
from pyqs_celery.exceptions import TimeoutError as ResultTimeout
from tests.support.embedded import ROOT
from tests.support.waiting import until


@pytest.fixture
def app():
    made = TestApp()

    @made.task(name="add")
    def add(x, y):
        return x + y

    @made.task(name="fail")
    def fail():
        raise KeyError("k")

    yield made
    made.close()


def test_a_worker_in_a_thread_runs_real_messages(app):
    with start_worker(app) as worker:
        result = app.tasks["add"].delay(2, 3)

        assert result.get(timeout=10) == 5
        assert (result.state, result.successful(), result.failed()) == ("SUCCESS", True, False)
        with pytest.raises(KeyError):
            app.tasks["fail"].delay().get(timeout=10)
        assert app.tasks["fail"].delay().get(timeout=10, propagate=False).args == ("k",)
        assert "@" in worker.hostname


def test_when_the_block_ends_no_thread_of_the_worker_is_left(app):
    before = set(threading.enumerate())

    with start_worker(app):
        app.tasks["add"].delay(1, 1).get(timeout=10)

    assert not [thread for thread in set(threading.enumerate()) - before if thread.is_alive() and not thread.daemon]
    assert "celery-test-worker" not in {thread.name for thread in threading.enumerate()}


def test_a_thread_of_a_worker_closes_its_loop(app):
    seen = []

    @app.task(name="where")
    async def where():
        seen.append(asyncio.get_running_loop())

    with start_worker(app):
        where.delay().get(timeout=10)

    until(seen[0].is_closed, "the loop to be closed")


def test_a_worker_that_cannot_start_says_why(app):
    app.conf.broker_transport_options = {"predefined_queues": {"x": {}}}

    with pytest.raises(ImproperlyConfigured), start_worker(app):
        pass


def test_a_result_that_does_not_come(app):
    with pytest.raises(ResultTimeout):
        app.AsyncResult(str(uuid.uuid4())).get(timeout=0.01)
    assert app.AsyncResult("no-such").state == "PENDING"


def test_what_is_no_json_is_no_result(app):
    @app.task(name="odd")
    def odd():
        return object()

    with start_worker(app):
        result = odd.delay()
        with pytest.raises(Exception, match="not JSON serializable") as raised:
            result.get(timeout=10)
        assert app.tasks["add"].delay(1, 1).get(timeout=10) == 2

    # as Celery: the task has failed, with the serializer's error
    assert type(raised.value).__name__ == "EncodeError"
    assert result.state == "FAILURE"


def test_waiting_inside_a_task_is_refused(app):
    @app.task(name="waits")
    def waits():
        return app.tasks["add"].delay(1, 1).get(timeout=1)

    with start_worker(app), pytest.raises(RuntimeError, match=r"result\.get\(\) within a task"):
        waits.delay().get(timeout=10)


def test_asking_workers_is_not_promised(app):
    with pytest.raises(ControlUnavailable, match="broadcast"):
        app.control.inspect().ping()


def test_the_default_app_is_put_back(app):
    from pyqs_celery import _state

    before = _state.default_app

    with setup_default_app(app):
        assert _state.get_current_app() is app
    assert _state.default_app is before


def test_celerys_fixtures(tmp_path):
    # given a user's tests, written for celery.contrib.pytest
    (tmp_path / "conftest.py").write_text(
        textwrap.dedent(
            """
            import pytest
            pytest_plugins = ("pyqs_celery.contrib.pytest",)

            @pytest.fixture(scope="session")
            def celery_config():
                return {"task_default_queue": "tests"}

            @pytest.fixture(scope="session")
            def celery_class_tasks():
                from pyqs_celery import Task
                class Double(Task):
                    name = "double"
                    def run(self, x):
                        return 2 * x
                return [Double]
            """
        )
    )
    (tmp_path / "test_mine.py").write_text(
        textwrap.dedent(
            """
            import pytest

            def test_worker(celery_app, celery_worker):
                @celery_app.task
                def mul(x, y):
                    return x * y
                assert mul.delay(4, 4).get(timeout=10) == 16
                assert celery_app.conf.task_default_queue == "tests"

            @pytest.mark.celery(task_default_queue="marked")
            def test_marked(celery_app):
                assert celery_app.conf.task_default_queue == "marked"

            def test_session(celery_session_app, celery_session_worker):
                assert celery_session_app.tasks["double"].delay(4).get(timeout=10) == 8

            def test_includes(celery_worker, celery_app):
                assert celery_app.tasks["celery.ping"].delay().get(timeout=10) == "pong"
            """
        )
    )

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert "4 passed" in done.stdout, done.stdout[-3000:] + done.stderr[-1000:]


def test_the_fixtures_under_celerys_own_name(tmp_path):
    (tmp_path / "conftest.py").write_text('pytest_plugins = ("celery.contrib.pytest",)\n')
    (tmp_path / "test_mine.py").write_text(
        "def test_worker(celery_app):\n    import celery\n    assert isinstance(celery_app, celery.Celery)\n"
    )

    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "pyqs_celery.contrib.as_celery",
            "-p",
            "no:cacheprovider",
            str(tmp_path),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert "1 passed" in done.stdout, done.stdout[-3000:] + done.stderr[-1000:]
