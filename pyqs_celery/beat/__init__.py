"""Beat: sends tasks by schedule. ``pyqs-celery beat``, ``worker -B``, and the classes that schedulers of others derive from.

https://docs.celeryq.dev/en/stable/userguide/periodic-tasks.html
"""

from __future__ import annotations

from pyqs_celery.beat.entry import BeatLazyFunc, ScheduleEntry
from pyqs_celery.beat.persistent import PersistentScheduler
from pyqs_celery.beat.scheduler import DEFAULT_MAX_INTERVAL, Scheduler, SchedulingError, event_t
from pyqs_celery.beat.service import Beat, Service, scheduler_class

__all__ = (
    "DEFAULT_MAX_INTERVAL",
    "Beat",
    "BeatLazyFunc",
    "PersistentScheduler",
    "ScheduleEntry",
    "Scheduler",
    "SchedulingError",
    "Service",
    "event_t",
    "scheduler_class",
)
