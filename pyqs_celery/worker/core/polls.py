"""The polls that are open: one long one for each queue, and short ones beside it while a queue is deep."""

from __future__ import annotations

from collections import deque

from pyqs_celery.broker.limits import BATCH_ENTRIES

SLOW_SECONDS = 0.005
"""How long a receive of a full batch must have taken before several are made at once: below, the network is no bottleneck."""
EXTRA_MOST = 3
"""How many short polls of a deep queue may be open beside its long one."""
PROMISED_SECONDS = 1.0
"""How long a poll counts as bringing what it asked for; one that is open longer waits on an empty queue."""


class Polls:
    """By queue. ``deep`` are those of which the last poll was full, and slow. ``quiet`` are those of which it brought nothing.

    ``eager`` are those whose long poll is open and was expected to bring something.
    """

    def __init__(self) -> None:
        self.deep: set[str] = set()
        self.quiet: set[str] = set()
        self.eager: set[str] = set()
        self._turns: dict[str, int] = {}
        self._began = 0
        self._open: dict[str, float] = {}
        self._extra: dict[str, int] = {}
        self._total_extra = 0
        self._promised: dict[str, tuple[float, int]] = {}
        self._promises: deque[tuple[float, str]] = deque()
        self._total_promised = 0

    def began(self, name: str, promised: int, now: float) -> None:
        """A long poll is open, which is expected to bring so many messages."""
        self._open[name] = now
        self._began += 1
        self._turns[name] = self._began
        if promised:
            self.eager.add(name)
            until = now + PROMISED_SECONDS
            self._promised[name] = (until, promised)
            self._promises.append((until, name))
            self._total_promised += promised

    def extra_began(self, name: str) -> None:
        """A short poll of this queue, for a full batch, is open beside its long one."""
        self._extra[name] = self._extra.get(name, 0) + 1
        self._total_extra += 1

    def ended(self, name: str, brought: int, now: float, *, extra: bool) -> None:
        """A long poll has returned, or an ``extra`` one.

        A full batch says that there is more, anything less that there is not. One that came at once needs no help.
        """
        if extra:
            self._extra[name] -= 1
            self._total_extra -= 1
        else:
            slow = now - self._open.pop(name, now) >= SLOW_SECONDS
            self.eager.discard(name)
            self._break_promise(name)
            if brought >= BATCH_ENTRIES and slow:
                self.deep.add(name)
        if brought < BATCH_ENTRIES:
            self.deep.discard(name)
        if brought:
            self.quiet.discard(name)
        else:
            self.quiet.add(name)

    def promised(self, now: float) -> int:
        """How many messages polls of the last moment may still bring from queues that are busy."""
        while self._promises and self._promises[0][0] <= now:
            until, name = self._promises.popleft()
            if self._promised.get(name, (0.0, 0))[0] == until:
                self._break_promise(name)
        return BATCH_ENTRIES * self._total_extra + self._total_promised

    def _break_promise(self, name: str) -> None:
        self._total_promised -= self._promised.pop(name, (0.0, 0))[1]

    def turn(self, name: str) -> int:
        """The smaller, the longer ago its last long poll began."""
        return self._turns.get(name, 0)

    @property
    def number(self) -> int:
        """How many long polls are open."""
        return len(self._open)

    def is_long(self, name: str) -> bool:
        """True while a long poll of this queue is open."""
        return name in self._open

    def is_open(self, name: str) -> bool:
        """True while any poll of this queue is open."""
        return name in self._open or bool(self._extra.get(name))

    @property
    def any_open(self) -> bool:
        """True while any poll is open."""
        return bool(self._open) or self._total_extra > 0

    def may_add(self, name: str) -> bool:
        """True if one more short poll may be open."""
        return self._extra.get(name, 0) < EXTRA_MOST

    def forget(self, name: str) -> None:
        """It is served no more, and none of its polls is open."""
        self._extra.pop(name, None)
        self._turns.pop(name, None)
        self.quiet.discard(name)
        self.deep.discard(name)
