"""The scheduler: which entry is due next, and sending it. Schedulers of others derive from this class.

What differs from Celery's: a tick that cannot be sent because the broker is out of reach is kept and sent when it is back,
instead of being logged and lost.
"""

from __future__ import annotations

import copy
import heapq
import logging
import time
from collections import namedtuple
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from pyqs_celery.beat.entry import ScheduleEntry, evaluated
from pyqs_celery.exceptions import CeleryError, ImproperlyConfigured, OperationalError
from pyqs_celery.utils.backoff import backoff

logger = logging.getLogger("celery.beat")
DEFAULT_MAX_INTERVAL = 300
"""Seconds a scheduler sleeps at most."""
SYNC_SECONDS = 3 * 60

event_t = namedtuple("event_t", ("time", "priority", "entry"))  # noqa: PYI024 - Celery's name and form


class SchedulingError(CeleryError):
    """A scheduled task could not be sent."""


class Scheduler:
    """Entries in memory, from ``beat_schedule``.

    ``schedule`` is the mapping that holds them, ``max_interval`` the seconds between two looks at most, ``lazy`` leaves
    ``setup_schedule`` to the caller. ``tick()`` sends what is due and gives the seconds until the next look.
    """

    Entry: Any = ScheduleEntry
    max_interval: float = DEFAULT_MAX_INTERVAL
    sync_every: float = SYNC_SECONDS
    sync_every_tasks: int | None = None
    logger: ClassVar[logging.Logger] = logger
    _last_sync: float | None = None
    _tasks_since_sync = 0

    def __init__(
        self,
        app: Any,
        schedule: Any = None,
        max_interval: float | None = None,
        Producer: Any = None,  # noqa: N803 - Celery's name
        lazy: bool = False,
        sync_every_tasks: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.app = app
        self.data = {} if schedule is None else schedule
        self.max_interval = max_interval or app.conf.beat_max_loop_interval or self.max_interval
        self.Producer = Producer
        self.sync_every_tasks = sync_every_tasks if sync_every_tasks is not None else app.conf.beat_sync_every
        self._heap: Any = None
        self.old_schedulers: Any = None
        self._unsent: dict[Any, ScheduleEntry] = {}
        self._failures = 0
        self._retry_at = 0.0
        if not lazy:
            self.setup_schedule()

    # -- entries -----------------------------------------------------------------------------------

    def setup_schedule(self) -> None:
        """Fill the schedule; called once before the first tick."""
        self.install_default_entries(self.data)
        self.merge_inplace(self.app.conf.beat_schedule)

    def install_default_entries(self, data: Any) -> None:
        """Entries of Celery's own: the daily clean-up of a result store that does not expire by itself."""
        if not self.app.conf.result_expires or getattr(self.app.backend, "supports_autoexpire", True):
            return
        from pyqs_celery.schedules import crontab

        self.update_from_dict(
            {
                "celery.backend_cleanup": {
                    "task": "celery.backend_cleanup",
                    "schedule": crontab("0", "4", "*"),
                    "options": {"expires": 12 * 3600},
                }
            }
        )

    def _maybe_entry(self, name: str, entry: Any) -> ScheduleEntry:
        if isinstance(entry, ScheduleEntry):
            entry.app = self.app
            return entry
        if not isinstance(entry, Mapping):
            raise ImproperlyConfigured(f"beat_schedule[{name!r}] must be a dictionary, not {type(entry).__name__}")
        missing = [key for key in ("task", "schedule") if entry.get(key) is None]
        if missing:
            raise ImproperlyConfigured(f"beat_schedule[{name!r}] has no {' and no '.join(missing)}")
        try:
            made: ScheduleEntry = self.Entry(**{**entry, "name": name, "app": self.app})
        except TypeError as exc:
            raise ImproperlyConfigured(f"beat_schedule[{name!r}]: {exc}") from exc
        if not hasattr(made.schedule, "is_due"):
            raise ImproperlyConfigured(
                f"beat_schedule[{name!r}]: a schedule is seconds, a timedelta, crontab, schedule or solar, not {made.schedule!r}"
            )
        self._warn_of_unknown(name, made.task)
        return made

    def _warn_of_unknown(self, name: str, task: Any) -> None:
        if task not in self.app.tasks and not str(task).startswith("celery."):
            logger.warning(
                "Schedule entry %r names the task %r, which this application does not have; it is sent all the same",
                name,
                task,
            )

    def update_from_dict(self, dict_: Mapping[str, Any]) -> None:
        """Add or replace entries given as dictionaries. Raises ImproperlyConfigured."""
        self.schedule.update({name: self._maybe_entry(name, entry) for name, entry in dict_.items()})

    def merge_inplace(self, b: Mapping[str, Any]) -> None:
        """Make the schedule hold exactly ``b``; what is known of entries that stay (when they last ran) is kept."""
        schedule = self.schedule
        kept = set(b) | {name for name in schedule if str(name).startswith("celery.")}
        for name in [name for name in schedule if name not in kept]:
            schedule.pop(name, None)
        for name, given in b.items():
            entry = self._maybe_entry(name, dict(given) if isinstance(given, Mapping) else given)
            if name in schedule:
                schedule[name].update(entry)
            else:
                schedule[name] = entry

    def add(self, **kwargs: Any) -> Any:
        """Add one entry by its fields; gives it."""
        entry = self.Entry(app=self.app, **kwargs)
        self.schedule[entry.name] = entry
        return entry

    def get_schedule(self) -> Any:
        """The mapping of entries."""
        return self.data

    def set_schedule(self, schedule: Any) -> None:
        """Replace the mapping of entries."""
        self.data = schedule

    schedule = property(get_schedule, set_schedule)

    def schedules_equal(self, old_schedules: Any, new_schedules: Any) -> bool:
        """True if two schedules would tick alike."""
        if old_schedules is None or new_schedules is None:
            return old_schedules is new_schedules
        if set(old_schedules) != set(new_schedules):
            return False
        return all(old_schedules[name] == entry for name, entry in new_schedules.items())

    # -- ticking -----------------------------------------------------------------------------------

    def tick(
        self,
        event_t: Any = event_t,
        min: Callable[..., Any] = min,  # noqa: A002 - Celery's signature
        heappop: Callable[..., Any] = heapq.heappop,
        heappush: Callable[..., Any] = heapq.heappush,
    ) -> float:
        """Send one entry that is due, and give the seconds until the next look."""
        self._send_unsent()
        schedule = self.schedule
        if self._heap is None or not self.schedules_equal(self.old_schedulers, schedule):
            self.old_schedulers = copy.copy(schedule)
            self.populate_heap(event_t)
        heap = self._heap
        if not heap:
            return self._bounded(self.max_interval)
        event = heap[0]
        entry = event.entry
        due, seconds = self.is_due(entry)
        if not due:
            if seconds is None:
                seconds = self.max_interval
            # what was thought of when it would be due may have been wrong (a clock was set): put it where it belongs
            heapq.heapreplace(heap, event_t(self._when(entry, seconds), event.priority, entry))
            first = heap[0].time - time.time()
            return self._bounded(min(self.adjust(max(0.0, first)), self.max_interval))
        heappop(heap)
        following = self.reserve(entry)
        self.apply_entry(entry, producer=self.producer)
        heappush(heap, event_t(self._when(following, seconds), event.priority, following))
        return 0

    def _bounded(self, seconds: float) -> float:
        """No longer than until the next attempt for what could not be sent."""
        return min(seconds, max(0.0, self._retry_at - time.time())) if self._unsent else seconds

    def populate_heap(self, event_t: Any = event_t, heapify: Callable[..., Any] = heapq.heapify) -> None:
        """Work out for every entry when it is due."""
        self._heap = []
        for entry in self.schedule.values():
            due, seconds = entry.is_due()
            self._heap.append(event_t(self._when(entry, 0 if due else (seconds or 0)), 5, entry))
        heapify(self._heap)

    def _when(self, entry: Any, next_time_to_run: float) -> float:
        return time.time() + (next_time_to_run or 0)

    def adjust(self, n: float, drift: float = -0.010) -> float:
        """A little earlier, so that a sleep does not end too late."""
        return n + drift if n and n > 0 else n

    def is_due(self, entry: Any) -> Any:
        """(whether the entry is to run now, seconds until it is looked at again)."""
        return entry.is_due()

    def reserve(self, entry: Any) -> Any:
        """Note in the schedule that the entry runs now; gives the entry after it."""
        following = self.schedule[entry.name] = next(entry)
        return following

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Send one entry. What goes wrong is logged; what the broker did not take is kept and sent later."""
        logger.info("Scheduler: Sending due task %s (%s)", entry.name, entry.task)
        try:
            result = self.apply_async(entry, producer=producer, advance=False)
        except SchedulingError as exc:
            cause = exc.__cause__
            if isinstance(cause, OperationalError):
                self._unsent[entry.name] = entry
                self._failures += 1
                self._retry_at = time.time() + backoff(self._failures)
                logger.error("%s; it is sent when that works again", exc)
            else:
                logger.error("Message Error: %s", exc, exc_info=cause)
        else:
            self._unsent.pop(entry.name, None)
            logger.debug("%s sent. id->%s", entry.task, getattr(result, "id", result))

    def _send_unsent(self) -> None:
        if not self._unsent or time.time() < self._retry_at:
            return
        for entry in list(self._unsent.values()):
            failures = self._failures
            self.apply_entry(entry, producer=self.producer)
            if self._failures > failures:
                return  # the broker is still away: the others need not try
        self._failures = 0

    def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **kwargs: Any) -> Any:
        """Send an entry's task. Raises SchedulingError."""
        if advance:
            entry = self.reserve(entry)
        try:
            args = [evaluated(arg) for arg in entry.args or ()]
            keywords = {key: evaluated(value) for key, value in (entry.kwargs or {}).items()}
            task = self.app.tasks.get(entry.task)
            options = {"producer": producer, **(entry.options or {})}
            if task is not None:
                return task.apply_async(args, keywords, **options)
            return self.send_task(entry.task, args, keywords, **options)
        except Exception as exc:
            raise SchedulingError(f"Couldn't apply scheduled task {entry.name}: {exc}") from exc
        finally:
            self._tasks_since_sync += 1
            if self.should_sync():
                self._do_sync()

    def send_task(self, *args: Any, **kwargs: Any) -> Any:
        """Send a task by name."""
        return self.app.send_task(*args, **kwargs)

    # -- keeping -----------------------------------------------------------------------------------

    def should_sync(self) -> bool:
        """True if it is time to write the schedule down."""
        if self._last_sync is None or time.monotonic() - self._last_sync > self.sync_every:
            return True
        return bool(self.sync_every_tasks and self._tasks_since_sync >= self.sync_every_tasks)

    def _do_sync(self) -> None:
        try:
            logger.debug("beat: Synchronizing schedule...")
            self.sync()
        finally:
            self._last_sync = time.monotonic()
            self._tasks_since_sync = 0

    def sync(self) -> None:
        """Write the schedule down, where a scheduler keeps one."""

    def close(self) -> None:
        """Write the schedule down for the last time."""
        self.sync()

    # -- Celery's attributes -------------------------------------------------------------------------

    @property
    def connection(self) -> Any:
        """A kombu connection, for schedulers that use one."""
        return self.app.connection_for_write()

    @property
    def producer(self) -> Any:
        """None: tasks are sent by the application's publisher."""
        return None

    @property
    def info(self) -> str:
        """A line for the banner."""
        return ""
