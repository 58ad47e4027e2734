"""Beat's loop, and the program around it."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib.metadata import entry_points
from types import FrameType
from typing import Any

from pyqs_celery import _state, signals
from pyqs_celery.beat.lock import BeatLock
from pyqs_celery.beat.persistent import PersistentScheduler
from pyqs_celery.beat.scheduler import Scheduler
from pyqs_celery.exceptions import ImproperlyConfigured
from pyqs_celery.utils.imports import symbol_by_name
from pyqs_celery.utils.log import level_number, setup

logger = logging.getLogger("celery.beat")
OURS = {
    "celery.beat:PersistentScheduler": PersistentScheduler,
    "celery.beat.PersistentScheduler": PersistentScheduler,
    "celery.beat:Scheduler": Scheduler,
    "celery.beat.Scheduler": Scheduler,
}
GROUPS = ("pyqs_celery.beat_schedulers", "celery.beat_schedulers")


def scheduler_class(wanted: Any) -> Any:
    """The class that ``beat_scheduler`` or ``-S`` names: a class, a dotted path, or an alias from an entry point.

    Raises ImproperlyConfigured.
    """
    if not isinstance(wanted, str):
        return wanted
    if wanted in OURS:
        return OURS[wanted]
    for group in GROUPS:
        for point in entry_points(group=group):
            if point.name == wanted:
                wanted = point.value
    try:
        return symbol_by_name(wanted)
    except (ImportError, AttributeError, ValueError) as exc:
        raise ImproperlyConfigured(f"the scheduler {wanted!r} cannot be imported: {exc}") from exc


class Service:
    """Runs a scheduler until it is told to stop.

    ``schedule_filename`` and ``max_interval`` are passed on to the scheduler's class (``scheduler_cls``, default
    ``beat_scheduler``). With ``beat_lock_queue`` it ticks only while it holds that lock.
    """

    scheduler_cls: Any = PersistentScheduler

    def __init__(
        self,
        app: Any,
        max_interval: float | None = None,
        schedule_filename: str | None = None,
        scheduler_cls: Any = None,
    ) -> None:
        conf = app.conf
        self.app = app
        self.max_interval = max_interval or conf.beat_max_loop_interval
        self.scheduler_cls = scheduler_cls or conf.beat_scheduler or self.scheduler_cls
        self.schedule_filename = schedule_filename or conf.beat_schedule_filename
        self.lock = (
            BeatLock(app.broker_config(), str(conf.beat_lock_queue), int(conf.beat_lock_seconds))
            if conf.beat_lock_queue
            else None
        )
        self._scheduler: Any = None
        self._shutdown = threading.Event()

    def get_scheduler(self, lazy: bool = False, extension_namespace: str = "celery.beat_schedulers") -> Any:
        """A scheduler. Raises ImproperlyConfigured and BootError."""
        made = scheduler_class(self.scheduler_cls)
        return made(app=self.app, schedule_filename=self.schedule_filename, max_interval=self.max_interval, lazy=lazy)

    @property
    def scheduler(self) -> Any:
        """The scheduler, made at its first use."""
        if self._scheduler is None:
            self._scheduler = self.get_scheduler()
        return self._scheduler

    @property
    def schedule(self) -> Any:
        """Its entries."""
        return self.scheduler.schedule

    def start(self, embedded_process: bool = False, wait: Callable[[float], bool] | None = None) -> None:
        """Tick until stopped. ``wait(seconds)`` sleeps, and gives True when it is time to stop."""
        wait = wait or self._shutdown.wait
        logger.info("beat: Starting...")
        scheduler = self.scheduler
        logger.debug("beat: Ticking with max interval->%s", timedelta(seconds=scheduler.max_interval))
        signals.beat_init.send(sender=self)
        if embedded_process:
            signals.beat_embedded_init.send(sender=self)
        was_ours = self.lock is None
        try:
            while not self._shutdown.is_set():
                ours = self.lock is None or self.lock.hold()
                if ours and not was_ours:
                    self._take_over(scheduler)
                was_ours = ours
                if wait(self._sleep(scheduler.tick() if ours else 1.0)):
                    break
                if ours and scheduler.should_sync():
                    scheduler._do_sync()
        finally:
            self.sync()
            if self.lock is not None:
                self.lock.release()

    def _sleep(self, seconds: float) -> float:
        """As long as the scheduler says, but never past the lock's next renewal."""
        return max(0.0, min(seconds, self.lock.seconds / 3) if self.lock is not None else seconds)

    def _take_over(self, scheduler: Any) -> None:
        """Another beat has ticked until its lock ran out: begin where it may have ended."""
        for entry in scheduler.schedule.values():
            earliest = entry.default_now() - timedelta(seconds=self.app.conf.beat_lock_seconds)
            if hasattr(entry, "last_run_at") and entry.last_run_at < earliest:
                entry.last_run_at = earliest
        scheduler._heap = None

    def sync(self) -> None:
        """Close the scheduler."""
        if self._scheduler is not None:
            self._scheduler.close()

    def stop(self, wait: bool = False) -> None:
        """Have ``start`` return."""
        logger.info("beat: Shutting down...")
        self._shutdown.set()


class Beat:
    """Beat as a program: ``app.Beat(scheduler=..., schedule="file").run()``; ``pyqs-celery beat`` is this."""

    Service: Any = Service

    def __init__(
        self,
        app: Any = None,
        max_interval: float | None = None,
        scheduler: Any = None,
        schedule: str | None = None,
        loglevel: Any = "WARN",
        logfile: str | None = None,
        no_color: bool | None = None,
        quiet: bool = False,
        scheduler_cls: Any = None,
        **kwargs: Any,
    ) -> None:
        self.app = app or _state.get_current_app()
        self.max_interval = max_interval
        self.scheduler_cls = scheduler or scheduler_cls or self.app.conf.beat_scheduler
        self.schedule = schedule or self.app.conf.beat_schedule_filename
        self.loglevel = level_number(loglevel)
        self.logfile = logfile
        self.colorize = False if no_color else None
        self.quiet = quiet

    def run(self) -> int:
        """Run until SIGTERM or SIGINT; main thread only. Raises ImproperlyConfigured and BootError."""
        self.app.set_current()
        self.app.set_default()
        self.app.loader.import_default_modules()
        self.app.finalize()
        setup(self.app.conf, self.loglevel, self.logfile, self.colorize)
        service = self.Service(self.app, self.max_interval, self.schedule, self.scheduler_cls)
        if not self.quiet:
            print(self.banner(service), flush=True)  # noqa: T201 - a program's first lines
        with _stopped_by_signals(service):
            service.start()
        return 0

    def banner(self, service: Any) -> str:
        """What is about to run."""
        from pyqs_celery.version import __version__

        scheduler = service.scheduler
        kind = f"{type(scheduler).__module__}.{type(scheduler).__qualname__}"
        lock = self.app.conf.beat_lock_queue or "none: run one beat only, or set beat_lock_queue"
        lines = [
            f"pyqs-celery beat {__version__} is starting.",
            f"    . broker -> {self.app.broker_config().shown}",
            f"    . scheduler -> {kind}",
            scheduler.info,
            f"    . lock -> {lock}",
            f"    . entries -> {len(scheduler.schedule)}",
            f"    . maxinterval -> {timedelta(seconds=scheduler.max_interval)}",
        ]
        return "\n".join(line for line in lines if line)


@contextmanager
def _stopped_by_signals(service: Service) -> Iterator[None]:
    def stop(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a handler's signature
        service._shutdown.set()

    before = {signum: signal.signal(signum, stop) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
