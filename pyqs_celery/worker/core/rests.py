"""Queues that are not asked for a while: what cannot be deleted would only be repeated."""

from __future__ import annotations

from collections.abc import Callable

FORBIDDEN_FIRST_SECONDS = 60.0
FORBIDDEN_MOST_SECONDS = 3600.0


class Rests:
    """Queues of which a deletion was denied. ``changed(queue)`` is called when one begins or ceases to rest."""

    def __init__(self, changed: Callable[[str], None]) -> None:
        self._changed = changed
        self._forbidden: dict[str, tuple[float, float]] = {}
        self._resting: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._resting)

    def __contains__(self, name: str) -> bool:
        return name in self._resting

    def forbid(self, name: str, now: float) -> None:
        """Rest this queue, each time longer."""
        _, last = self._forbidden.get(name, (0.0, 0.0))
        rest = min(FORBIDDEN_MOST_SECONDS, last * 2 or FORBIDDEN_FIRST_SECONDS)
        self._set(name, now + rest, rest)

    def refuse(self, name: str, now: float) -> None:
        """A deletion was denied, and is tried again: rest until that has ended, one way or the other."""
        until, last = self._forbidden.get(name, (0.0, 0.0))
        self._set(name, max(until, now + FORBIDDEN_FIRST_SECONDS), last)

    def _set(self, name: str, until: float, rest: float) -> None:
        self._forbidden[name] = (until, rest)
        self._resting[name] = until
        self._changed(name)

    def allow(self, name: str) -> None:
        """A message of it was deleted after all."""
        if self._forbidden.pop(name, None) is not None:
            self._resting.pop(name, None)
            self._changed(name)

    def wake(self, now: float) -> None:
        """Let those go that have rested for long enough."""
        if self._resting and min(self._resting.values()) <= now:
            for name in [name for name, until in self._resting.items() if until <= now]:
                del self._resting[name]
                self._changed(name)

    def is_resting(self, name: str, now: float) -> bool:
        """True while nothing may be taken of a queue."""
        return self._resting.get(name, 0.0) > now

    @property
    def forbidden(self) -> frozenset[str]:
        """The queues of which the last deletion was refused."""
        return frozenset(self._forbidden)

    def next_end(self, now: float) -> float | None:
        """When the next may be asked again."""
        return min((until for until in self._resting.values() if until > now), default=None)

    def forget(self, name: str) -> None:
        """It is served no more."""
        self._forbidden.pop(name, None)
        self._resting.pop(name, None)
