"""The instants at which the engine must look again, soonest first."""

from __future__ import annotations

import heapq
from typing import Literal

TimerKind = Literal["lease", "due", "kill", "patience"]


class Timers:
    """A heap of (instant, kind, tag). Entries are never removed, only found stale by their owner."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, TimerKind]] = []

    def add(self, when: float, tag: int, kind: TimerKind) -> None:
        """Ask to be reminded of ``tag`` at ``when``."""
        heapq.heappush(self._heap, (when, tag, kind))

    def pop_due(self, now: float) -> list[tuple[int, TimerKind]]:
        """All reminders up to ``now``, soonest first."""
        due: list[tuple[int, TimerKind]] = []
        while self._heap and self._heap[0][0] <= now:
            _, tag, kind = heapq.heappop(self._heap)
            due.append((tag, kind))
        return due

    def next(self) -> float | None:
        """When the soonest reminder is due."""
        return self._heap[0][0] if self._heap else None
