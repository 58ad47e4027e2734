"""From an app and a WorkerConfig to a running worker: what happens once, before anything is forked."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pyqs_celery import dedupe, signals
from pyqs_celery.app.config_idle import IDLE_DEFAULTS, MISSED, WITHOUT_EFFECT
from pyqs_celery.bootsteps import Steps
from pyqs_celery.exceptions import BootError, SecurityError, SecurityWarning
from pyqs_celery.utils import log, output
from pyqs_celery.wire.dumping import PICKLE_TYPE
from pyqs_celery.wire.serializers import accepted_types
from pyqs_celery.worker.config import WorkerConfig
from pyqs_celery.worker.fleet import Fleet
from pyqs_celery.worker.manager import Manager

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery

logger = logging.getLogger("celery.worker")


class Worker:
    """A worker as receivers of signals and boot steps see it: ``sender`` of worker_init, ``instance`` of celeryd_init."""

    def __init__(self, app: Celery, config: WorkerConfig, options: Mapping[str, Any]) -> None:
        self.app = app
        self.config = config
        self.options = dict(options)
        self.hostname = config.hostname
        self.concurrency = config.concurrency
        self.loglevel = config.loglevel
        self.pool_cls = config.pool
        self.steps: list[Any] = []
        self.exitcode: int | None = None

    def __repr__(self) -> str:
        return f"<Worker: {self.hostname}>"


def prepare(
    app: Celery,
    config: WorkerConfig,
    *,
    logfile: str | None = None,
    colour: bool | None = None,
    notes: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    is_program: bool = True,
) -> Fleet:
    """All that comes before the first process: imports, logging, checks, steps, signals. Raises as ``run_worker``.

    A worker inside another program (``is_program`` False) leaves that one's logging and user as they are.
    """
    app.set_current()
    app.set_default()
    _import_tasks(app)
    worker = Worker(app, config, options or {})
    signals.celeryd_init.send(sender=config.hostname, instance=worker, conf=app.conf, options=worker.options)
    if is_program:
        log.setup(app.conf, config.loglevel, logfile, colour)
    for note in notes:
        logger.debug("%s", note)
    signals.celeryd_after_setup.send(sender=config.hostname, instance=worker, conf=app.conf)
    if is_program:
        check_privileges(app.conf.accept_content)
    app.consumer_broker_config()
    app.finalize()
    check_results(app)
    if app.conf.sqs_deduplicate:
        dedupe.check(app)
    tell_of_idle_settings(app)
    _warn_of_limits(config)
    fleet = fleet_for(app, config)
    app.worker_steps = Steps(app.steps["worker"] | app.steps["consumer"], worker, worker.options)
    signals.worker_init.send(sender=worker)
    _warn_of_threads(config)
    return fleet


def run_worker(
    app: Celery,
    config: WorkerConfig,
    *,
    logfile: str | None = None,
    colour: bool | None = None,
    notes: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> int:
    """Run a worker until it is stopped, and give its exit code: 0, or 1 after SIGINT. Blocks; main thread only.

    ``notes`` are said at debug level once there is a log; ``options`` are the command line's, for boot steps.

    Raises BootError (nothing was started, starting again would not help) and ImproperlyConfigured.
    """
    fleet = prepare(app, config, logfile=logfile, colour=colour, notes=notes, options=options)
    manager = Manager(config, fleet, _silent if config.quiet else output.say)
    gc.collect()
    gc.freeze()  # what is there now is shared with the children until they write to it
    try:
        code = manager.run()
    finally:
        gc.unfreeze()
        output.let_go()
    if manager.restart_wanted:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves again, as SIGHUP asks
    return code


def tell_of_idle_settings(app: Celery) -> None:
    """Say of each setting that is set and changes nothing why, and what to do."""
    for name, reason in WITHOUT_EFFECT.items():
        if app.conf.is_set(name) and app.conf[name] != IDLE_DEFAULTS[name]:
            logger.log(
                logging.WARNING if name in MISSED else logging.INFO, "Setting %s has no effect here: %s", name, reason
            )


def _import_tasks(app: Celery) -> None:
    try:
        app.loader.import_default_modules()
    except ImportError as exc:
        raise BootError(f"a module with tasks cannot be imported: {type(exc).__name__}: {exc}") from exc


def check_privileges(accept_content: object) -> None:
    """Refuse to read pickles as root, and warn of being root at all; ``C_FORCE_ROOT`` says that it is meant so.

    https://docs.celeryq.dev/en/stable/userguide/daemonizing.html#running-the-worker-with-superuser-privileges-root
    """
    if os.geteuid() != 0 or os.environ.get("C_FORCE_ROOT"):
        return
    accepted = set(accept_content) if isinstance(accept_content, (list, tuple, set, frozenset)) else set()
    if PICKLE_TYPE in accepted_types(accepted):
        raise SecurityError(
            "as root this worker reads no pickles: whoever can send a message could run any code as root; run as another "
            "user (--uid), take pickle out of accept_content, or set C_FORCE_ROOT=1 if you must"
        )
    warnings.warn(
        "the worker runs as root; use another user (--uid), or set C_FORCE_ROOT=1", SecurityWarning, stacklevel=3
    )


def check_results(app: Celery) -> None:
    """Make the result back end, so that one which cannot be had ends the start. Raises ImproperlyConfigured."""
    logger.debug("Results: %s", type(app.backend).__name__)


def fleet_for(app: Celery, config: WorkerConfig) -> Fleet:
    """The pool that the configuration names. Raises BootError if the broker is out of its reach."""
    if config.pool == "prefork":
        if app.consumer_broker_config().in_memory is not None:
            raise BootError("memory:// queues live in one process, so they need -P threads or -P solo")
        from pyqs_celery.worker.pool_prefork import ForkFleet

        return ForkFleet(app, config)
    from pyqs_celery.worker.pool_threads import ThreadFleet

    if config.soft_time_limit or config.max_tasks_per_child or config.max_memory_per_child:
        logger.warning(
            "soft time limits and the replacement of children work with -P prefork only, not with -P %s", config.pool
        )
    return ThreadFleet(app, config)


def _warn_of_limits(config: WorkerConfig) -> None:
    soft, hard = config.soft_time_limit, config.time_limit
    if soft and hard and soft >= hard:
        logger.warning(
            "the soft time limit (%gs) is not below the hard one (%gs), so tasks are killed before they are told",
            soft,
            hard,
        )


def _warn_of_threads(config: WorkerConfig) -> None:
    others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if others and config.pool == "prefork":
        logger.warning(
            "importing the application started threads (%s); they do not live on in the worker's processes. Start them in "
            "worker_process_init or worker_ready instead",
            ", ".join(others),
        )


def _silent(line: str) -> None:
    """With -q there are no lines for people."""
