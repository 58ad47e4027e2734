"""A worker in a thread of the test's process: the real core, in the threads pool.

https://docs.celeryq.dev/en/stable/userguide/testing.html
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pyqs_celery import signals
from pyqs_celery.backends.disabled import DisabledBackend
from pyqs_celery.bin.controller import config_for
from pyqs_celery.utils.dispatch import Signal
from pyqs_celery.worker.manager import Manager
from pyqs_celery.worker.start import prepare

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery

logger = logging.getLogger("celery.worker")
test_worker_starting = Signal("test_worker_starting")
test_worker_started = Signal("test_worker_started", {"worker", "consumer"})
test_worker_stopped = Signal("test_worker_stopped", {"worker"})
START_SECONDS = 30.0
POLL_SECONDS_MOST = 1
"""How long a poll waits: a stop waits for it."""


class TestWorker:
    """What ``start_worker`` gives: ``app``, ``hostname``, ``consumer``, and ``stop()``."""

    __test__ = False

    def __init__(self, app: Celery, concurrency: int, pool: str, loglevel: int | str, **given: Any) -> None:
        self.app = app
        config = config_for(
            app, concurrency=concurrency, pool=pool, loglevel=loglevel, create_queues=True, quiet=True, **given
        )
        wait = min(config.wait_time_seconds, POLL_SECONDS_MOST)
        self.config = replace(
            config,
            wait_time_seconds=wait,
            remote_control=False,
            health_port=None,
            health_file=None,
            exit_when_idle=None,
        )
        self.hostname = self.config.hostname
        self.consumer: Any = None
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._manager = Manager(
            self.config, prepare(app, self.config, is_program=False), _say_nothing, takes_signals=False
        )
        self._thread = threading.Thread(target=self._run, name="celery-test-worker", daemon=True)

    def _run(self) -> None:
        try:
            self._manager.run()
        except BaseException as exc:  # noqa: BLE001 - it is raised again in the thread of the test
            self._error = exc
        self._ready.set()

    def _on_ready(self, sender: Any = None, **kwargs: Any) -> None:
        if sender.app is self.app and sender.hostname == self.hostname:
            self.consumer = sender
            self._ready.set()

    def start(self) -> None:
        """Start it, and wait until it takes messages. Raises what kept it from starting."""
        signals.worker_ready.connect(self._on_ready)
        try:
            self._thread.start()
            if not self._ready.wait(START_SECONDS):
                raise RuntimeError(f"the test worker was not ready after {START_SECONDS:g} seconds")
        finally:
            signals.worker_ready.disconnect(self._on_ready)
        if self._error is not None:
            raise self._error

    def ensure_started(self) -> None:
        """Wait until it takes messages."""
        self._ready.wait(START_SECONDS)

    def reload(
        self, modules: Iterable[str] | None = None, reload: bool = False, reloader: Callable[[Any], Any] | None = None
    ) -> None:
        """Import ``modules``, again if ``reload``. Tasks that were defined since the start need none of this to be run."""
        for name in modules or ():
            if reload and name in sys.modules:
                (reloader or importlib.reload)(sys.modules[name])
            else:
                importlib.import_module(name)

    def stop(self, timeout: float = 10.0) -> None:
        """Stop it as SIGTERM would. Raises RuntimeError if tasks do not let it end in ``timeout`` seconds."""
        self._manager.stop()
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise RuntimeError(
                "Worker thread failed to exit within the allocated timeout. Consider raising `shutdown_timeout`."
            )
        if self._error is not None:
            raise self._error


def _say_nothing(line: str) -> None:
    logger.debug("%s", line)


@contextmanager
def start_worker(
    app: Celery,
    concurrency: int = 1,
    pool: str = "solo",
    loglevel: int | str = os.environ.get("WORKER_LOGLEVEL", "ERROR"),
    logfile: str | None = None,  # noqa: ARG001 - Celery's; a test's log is the test runner's
    perform_ping_check: bool = True,
    ping_task_timeout: float = 10.0,
    shutdown_timeout: float = 10.0,
    **kwargs: Any,
) -> Iterator[TestWorker]:
    """Run a worker in a thread while the block runs.

    ``pool`` is solo or threads; other keywords are the worker's flags (``queues=["a"]``). The queues are created. With
    ``perform_ping_check`` and a result back end the task ``celery.ping`` (``pyqs_celery.contrib.testing.tasks``) is run first.
    """
    test_worker_starting.send(sender=app)
    worker = TestWorker(app, concurrency, "threads" if pool not in ("solo", "threads") else pool, loglevel, **kwargs)
    worker.start()
    try:
        test_worker_started.send(sender=app, worker=worker, consumer=worker.consumer)
        if perform_ping_check and not isinstance(app.backend, DisabledBackend):
            from pyqs_celery.contrib.testing.tasks import ping

            answer = app.tasks[ping.name].delay().get(timeout=ping_task_timeout)
            if answer != "pong":
                raise RuntimeError(f"celery.ping answered {answer!r}")
        yield worker
    finally:
        worker.stop(shutdown_timeout)
        test_worker_stopped.send(sender=app, worker=worker)
