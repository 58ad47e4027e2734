"""Running tasks that somebody wants ended: every few seconds their marks are read, in a thread, and the core is told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from pyqs_celery.worker.io import IoThreads

if TYPE_CHECKING:
    from pyqs_celery.revocation import Mark

logger = logging.getLogger("celery.worker.control")
LOOK_EVERY_SECONDS = 5.0
Reader = Callable[[Collection[str]], Mapping[str, "Mark"]]
"""From ids of tasks to the marks of those among them that are to be ended; it may take its time and must not raise."""


class RevokedWatch:
    """Looks while something runs, one look at a time. ``end`` is given signals by task id, in the loop's thread.

    ``can_end`` False: the pool cannot end a task that runs; this is said once.
    """

    def __init__(
        self, read: Reader, threads: IoThreads, end: Callable[[Mapping[str, int], float], None], *, can_end: bool
    ) -> None:
        self._read = read
        self._threads = threads
        self._end = end
        self._can_end = can_end
        self._due = 0.0
        self._looking = False
        self._told = False

    def next_due(self, *, busy: bool) -> float | None:
        """When to look next; None while nothing runs or a look is under way."""
        return self._due if busy and not self._looking else None

    def look(self, running: Callable[[], Collection[str]], now: float) -> None:
        """Look if it is time to."""
        if self._looking or now < self._due:
            return
        self._due = now + LOOK_EVERY_SECONDS
        task_ids = running()
        if task_ids:
            self._looking = True
            self._threads.ask(lambda: self._read(task_ids), self._found)

    def _found(self, marks: Mapping[str, Mark], now: float) -> None:
        self._looking = False
        if marks and self._can_end:
            self._end({task_id: mark.signum for task_id, mark in marks.items()}, now)
        elif marks and not self._told:
            self._told = True
            logger.warning(
                "Task %s is to be terminated, which only -P prefork can do: in this pool it runs to its end, as all do",
                next(iter(marks)),
            )
