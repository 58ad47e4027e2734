"""Which queues could be asked for messages now, kept up to date by what happens, so that nobody walks through all of them."""

from __future__ import annotations

from bisect import insort
from typing import Literal

Stage = Literal["untouched", "busy", "ready"]
"""What is in hand of a queue: nothing, only what runs or cannot run yet, or also what waits for a slot."""


class Askable:
    """Names by rank and stage, in the order in which they came there. A queue that may not be asked now is not here."""

    def __init__(self) -> None:
        self._place: dict[str, tuple[int, Stage]] = {}
        self._names: dict[tuple[int, Stage], dict[str, None]] = {}
        self._ranks: list[int] = []
        self._sizes: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._place)

    def put(self, name: str, rank: int, stage: Stage) -> None:
        """It may be asked, or stands elsewhere now."""
        place = (rank, stage)
        if self._place.get(name) == place:
            return
        self.drop(name)
        self._place[name] = place
        self._names.setdefault(place, {})[name] = None
        if rank not in self._sizes:
            insort(self._ranks, rank)
            self._sizes[rank] = 0
        self._sizes[rank] += 1

    def drop(self, name: str) -> None:
        """It may not be asked."""
        place = self._place.pop(name, None)
        if place is None:
            return
        del self._names[place][name]
        rank = place[0]
        self._sizes[rank] -= 1
        if not self._sizes[rank]:
            del self._sizes[rank]
            self._ranks.remove(rank)

    @property
    def top_rank(self) -> int:
        """The highest rank that has any. There must be one."""
        return self._ranks[-1]

    def ranks(self) -> list[int]:
        """The ranks that have any, the highest first."""
        return self._ranks[::-1]

    def names(self, rank: int, stage: Stage) -> list[str]:
        """Those of a rank in one stage."""
        return list(self._names.get((rank, stage), ()))
