"""Which ready delivery runs next: stride scheduling over queues, first come first served inside one.

Each queue has a *pass*; the smallest runs next and then moves on by 1/weight, so a queue of weight 3 gets three turns
to another's one, and a queue that was empty does not save up turns.
"""

from __future__ import annotations

import heapq
from collections import deque


class ReadyQueues:
    """Tags that may be dispatched, by queue."""

    def __init__(self) -> None:
        self._tags: dict[str, deque[int]] = {}
        self._pass: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._now = 0.0

    def add(self, queue: str, tag: int) -> None:
        """Put ``tag`` behind the others of its queue."""
        tags = self._tags.get(queue)
        if tags is None:
            tags = self._tags[queue] = deque()
        if not tags:
            self._pass[queue] = max(self._now, self._pass.get(queue, 0.0))
            heapq.heappush(self._heap, (self._pass[queue], queue))
        tags.append(tag)

    def remove(self, queue: str, tag: int) -> None:
        """Take out one tag that will not be run after all; O(ready of that queue)."""
        tags = self._tags.get(queue)
        if tags and tag in tags:
            tags.remove(tag)

    def count(self, queue: str) -> int:
        """How many deliveries of ``queue`` wait for a slot."""
        return len(self._tags.get(queue, ()))

    def pick(self, weights: dict[str, int], full: set[str]) -> int | None:
        """Take the next tag of a queue that is not in ``full``; None if there is none."""
        skipped: list[tuple[float, str]] = []
        chosen: int | None = None
        while self._heap:
            entry = heapq.heappop(self._heap)
            at, queue = entry
            tags = self._tags[queue]
            if not tags or at != self._pass[queue]:
                continue
            if queue in full:
                skipped.append(entry)
                continue
            self._now = at
            chosen = tags.popleft()
            self._pass[queue] = at + 1.0 / max(1, weights.get(queue, 1))
            if tags:
                heapq.heappush(self._heap, (self._pass[queue], queue))
            break
        for entry in skipped:
            heapq.heappush(self._heap, entry)
        return chosen
