"""Which ready delivery runs next: the highest rank, then stride scheduling over queues, first come first served inside one.

Each queue has a *pass*; the smallest runs next and then moves on by 1/weight, so a queue of weight 3 gets three turns
to another's one, and a queue that was empty does not save up turns. As long as a queue of a higher rank has anything ready,
none of a lower rank gets a turn.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from pyqs_celery.worker.core.precedence import LOWEST


class Share(NamedTuple):
    """A queue's claim on the slots."""

    rank: int = LOWEST
    weight: int = 1


ONE_SHARE = Share()


class ReadyQueues:
    """Tags that may be dispatched, by queue. ``changed(queue)`` is called when it begins or ceases to have any.

    ``blocked`` counts the tags of queues that may use no more slots; they get no turn until that ends.
    """

    def __init__(self, changed: Callable[[str], None] = lambda queue: None) -> None:
        self.blocked = 0
        self._changed = changed
        self._shares: Mapping[str, Share] = {}
        self._tags: dict[str, deque[int]] = {}
        self._pass: dict[str, float] = {}
        self._heap: list[tuple[int, float, str]] = []
        self._now: dict[int, float] = {}
        self._blocked: set[str] = set()
        self._turn = ""
        self._left = 0

    def share(self, shares: Mapping[str, Share]) -> None:
        """Every queue's claim from now on; one that is not named has the least."""
        self._shares = shares

    def add(self, queue: str, tag: int) -> None:
        """Put ``tag`` behind the others of its queue."""
        tags = self._tags.get(queue)
        if tags is None:
            tags = self._tags[queue] = deque()
        tags.append(tag)
        blocked = queue in self._blocked
        self.blocked += blocked
        if len(tags) == 1:
            rank = self._shares.get(queue, ONE_SHARE).rank
            self._pass[queue] = max(self._now.get(rank, 0.0), self._pass.get(queue, 0.0))
            if not blocked:
                heapq.heappush(self._heap, (-rank, self._pass[queue], queue))
            self._changed(queue)

    def remove(self, queue: str, tag: int) -> None:
        """Take out one tag that will not be run after all; O(ready of that queue)."""
        tags = self._tags.get(queue)
        if tags and tag in tags:
            tags.remove(tag)
            self.blocked -= queue in self._blocked
            if not tags:
                self._changed(queue)

    def forget(self, queue: str) -> None:
        """Nothing of it is left, and nothing will come."""
        self.unblock(queue)
        self._tags.pop(queue, None)
        self._pass.pop(queue, None)

    def count(self, queue: str) -> int:
        """How many deliveries of ``queue`` wait for a slot."""
        return len(self._tags.get(queue, ()))

    def block(self, queue: str) -> None:
        """It may use no more slots."""
        if queue not in self._blocked:
            self._blocked.add(queue)
            self.blocked += self.count(queue)

    def unblock(self, queue: str) -> None:
        """It may use slots again."""
        if queue in self._blocked:
            self._blocked.remove(queue)
            self.blocked -= self.count(queue)
            if self._tags.get(queue):
                heapq.heappush(self._heap, (-self._shares.get(queue, ONE_SHARE).rank, self._pass[queue], queue))

    def is_blocked(self, queue: str) -> bool:
        """True while it may use no more slots."""
        return queue in self._blocked

    def blocked_from(self, rank: int) -> int:
        """How many tags of blocked queues are of this rank or a higher one."""
        ranks = ((queue, self._shares.get(queue, ONE_SHARE).rank) for queue in self._blocked)
        return sum(self.count(queue) for queue, own in ranks if own >= rank)

    def top_rank(self) -> int:
        """The highest rank of which something is ready."""
        return -self._heap[0][0] if self._find() else LOWEST

    def pick(self, floor: int = LOWEST, in_a_row: int = 1) -> int | None:
        """Take the next tag, of a rank that is not below ``floor``; None if there is none.

        A queue whose turn it is gives up to ``in_a_row``, and has to wait for as long afterwards.
        """
        if not self._find() or -self._heap[0][0] < floor:
            return None
        order, at, queue = self._heap[0]
        if self._left > 0 and self._may_go_on(-order):
            queue, at = self._turn, self._pass[self._turn]
            self._left -= 1
        else:
            heapq.heappop(self._heap)
            self._now[-order] = at
            self._turn, self._left = queue, in_a_row - 1
        rank, weight = self._shares.get(queue, ONE_SHARE)
        tags = self._tags[queue]
        chosen = tags.popleft()
        self._pass[queue] = at + 1.0 / max(1, weight)
        if tags:
            heapq.heappush(self._heap, (-rank, self._pass[queue], queue))
        else:
            self._changed(queue)
        return chosen

    def _may_go_on(self, rank: int) -> bool:
        """True if the queue whose turn it is has more, and none of a higher rank has: ``rank`` is the highest there is."""
        ready = self._tags.get(self._turn) and self._turn not in self._blocked
        return bool(ready) and self._shares.get(self._turn, ONE_SHARE).rank >= rank

    def _find(self) -> bool:
        """Throw away entries that are out of date; True if a good one is on top."""
        while self._heap:
            _, at, queue = self._heap[0]
            if self._tags.get(queue) and queue not in self._blocked and at == self._pass[queue]:
                return True
            heapq.heappop(self._heap)
        return False
