"""How soon what has ended is started again: at once, or after a delay that doubles while it lives but a moment."""

from __future__ import annotations

SHORT_LIFE_SECONDS = 1.0
FIRST_DELAY_SECONDS = 0.5
MOST_SECONDS = 30.0
AFTER_WORK_SECONDS = 2.0
"""The longest delay after a child that could start: what it ran has ended it, and the slot is wanted for others."""


class Respawns:
    """What is to be started again, by slot, and when. Instants are monotonic."""

    def __init__(self) -> None:
        self._due: dict[int, float] = {}
        self._delays: dict[int, float] = {}

    def add(self, slot: int, born: float, now: float, most: float = MOST_SECONDS) -> None:
        """Start it again: at once, or after a doubled delay of ``most`` seconds if it lived but a moment."""
        short = now - born < SHORT_LIFE_SECONDS
        delay = min(most, max(FIRST_DELAY_SECONDS, self._delays.get(slot, 0.0) * 2)) if short else 0.0
        self._delays[slot] = delay
        self._due[slot] = now + delay

    def take_due(self, now: float) -> list[int]:
        """The slots whose time has come, each once."""
        due = [slot for slot, instant in self._due.items() if instant <= now]
        for slot in due:
            del self._due[slot]
        return due

    def drop(self, slot: int) -> None:
        """Do not start this one."""
        self._due.pop(slot, None)

    def keep_only(self, *slots: int) -> None:
        """Start none but these."""
        self._due = {slot: instant for slot, instant in self._due.items() if slot in slots}

    def next_due(self) -> float | None:
        """When ``take_due`` has something next."""
        return min(self._due.values(), default=None)
