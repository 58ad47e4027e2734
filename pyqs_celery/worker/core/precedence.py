"""When a queue of a lower rank must wait for a higher one, of which it is not known yet whether anything waits in it.

SQS tells what a queue holds only by a receive. So one that has just been asked is listened to for a moment before anything
of a lower rank is asked for or begun. A poll that brought less than it asked for has emptied its queue; the next one that
follows at once is not waited for, else a trickle of messages would shut out every queue below it.
"""

from __future__ import annotations

LISTEN_SECONDS = 0.25
"""How long a receive may take to bring what waits: some hundredths of a second at SQS, and a busy machine's share."""
LOWEST = 0


class Precedence:
    """Told of the long polls of all queues, in the order in which they happen."""

    def __init__(self) -> None:
        self._awaited: dict[str, tuple[int, float]] = {}
        self._asked: dict[str, int] = {}
        self._emptied: dict[str, float] = {}

    def asked(self, name: str, rank: int, count: int, now: float) -> None:
        """A poll for up to ``count`` messages is open."""
        self._asked[name] = count
        if now - self._emptied.get(name, float("-inf")) <= LISTEN_SECONDS:
            self._awaited.pop(name, None)
        else:
            self._awaited[name] = (rank, now + LISTEN_SECONDS)

    def answered(self, name: str, rank: int, brought: int, now: float) -> None:
        """It has returned. A full one is likely to be followed by another."""
        if brought < self._asked.pop(name, 0):
            self._emptied[name] = now
            self._awaited.pop(name, None)
        else:
            self._emptied.pop(name, None)
            self._awaited[name] = (rank, now + LISTEN_SECONDS)

    def forget(self, name: str) -> None:
        """It is served no more."""
        self._awaited.pop(name, None)
        self._asked.pop(name, None)
        self._emptied.pop(name, None)

    def floor(self, now: float) -> int:
        """The rank below which everything must wait."""
        self._expire(now)
        return max((rank for rank, _ in self._awaited.values()), default=LOWEST)

    def next_change(self, now: float) -> float | None:
        """When the floor may be another though nothing has happened."""
        self._expire(now)
        return min((until for _, until in self._awaited.values()), default=None)

    def _expire(self, now: float) -> None:
        for name in [name for name, (_, until) in self._awaited.items() if until <= now]:
            del self._awaited[name]
