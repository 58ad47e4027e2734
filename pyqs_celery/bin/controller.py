"""``app.Worker(...)``: a worker started by a program instead of the command line."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pyqs_celery import _state
from pyqs_celery.bin.options import no_flags
from pyqs_celery.bin.worker_config import Machine, build
from pyqs_celery.exceptions import BootError

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery
    from pyqs_celery.worker.config import WorkerConfig


def config_for(app: Celery, **given: Any) -> WorkerConfig:
    """The configuration of a worker from keywords named like the command line's flags.

    ``queues`` is a name, a list, or Celery's comma list. Raises UsageError for keywords and values that make no sense.
    """
    flags = no_flags()
    unknown = sorted(set(given) - set(flags) - {"quiet"})
    if unknown:
        raise TypeError(f"a worker has no option {', '.join(unknown)}")
    flags |= {name: value for name, value in given.items() if value is not None}
    for name in ("queues", "exclude_queues", "include"):
        flags[name] = _texts(flags[name])
    return build(app.conf, flags, (), Machine(socket.gethostname(), os.cpu_count() or 1), app_spec=app.main)


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(str(getattr(each, "name", each)) for each in _iterated(value))


def _iterated(value: Any) -> Iterable[Any]:
    return value or ()


class WorkController:
    """A worker: ``start()`` runs it until it is stopped; keywords are the command line's flags.

    ``hostname``, ``concurrency``, ``loglevel``, ``queues`` and ``pool`` as ``pyqs-celery worker`` has them. Main thread only.
    https://docs.celeryq.dev/en/stable/reference/celery.worker.html
    """

    def __init__(self, app: Celery | None = None, logfile: str | None = None, **given: Any) -> None:
        self.app = app or _state.get_current_app()
        self.config = config_for(self.app, **given)
        self.logfile = logfile
        self.options = given
        self.hostname = self.config.hostname
        self.concurrency = self.config.concurrency
        self.loglevel = self.config.loglevel
        self.pool_cls = self.config.pool
        self.exitcode: int | None = None

    def start(self) -> None:
        """Run until SIGTERM or SIGINT; ``exitcode`` tells how it ended. Raises BootError and ImproperlyConfigured."""
        from pyqs_celery.worker.start import run_worker

        try:
            self.exitcode = run_worker(self.app, self.config, logfile=self.logfile, options=self.options)
        except BootError:
            self.exitcode = 3
            raise

    def __repr__(self) -> str:
        return f"<Worker: {self.hostname}>"
