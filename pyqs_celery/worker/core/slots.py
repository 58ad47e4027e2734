"""The places for children: which are there, what each runs, and which is idle longest."""

from __future__ import annotations

from collections import deque


class Slots:
    """Tags by slot. A slot is known from its child's first word until its child has ended."""

    def __init__(self) -> None:
        self._tags: dict[int, int | None] = {}
        self._idle: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._tags)

    def __contains__(self, slot: int) -> bool:
        return slot in self._tags

    @property
    def idle(self) -> int:
        """How many are idle."""
        return len(self._idle)

    @property
    def busy(self) -> int:
        """In how many something runs."""
        return len(self._tags) - len(self._idle)

    def add(self, slot: int) -> None:
        """A child is there and idle."""
        if slot not in self._tags:
            self._tags[slot] = None
            self._idle.append(slot)

    def take(self, tag: int) -> int:
        """Let the child that has been idle longest run ``tag``; its slot. There must be one."""
        slot = self._idle.popleft()
        self._tags[slot] = tag
        return slot

    def free(self, slot: int) -> None:
        """What ran there has ended."""
        if self._tags.get(slot) is not None:
            self._tags[slot] = None
            self._idle.append(slot)

    def remove(self, slot: int) -> int | None:
        """Its child is gone, or about to be; the tag that ran there."""
        if slot in self._idle:
            self._idle.remove(slot)
        return self._tags.pop(slot, None)

    def tag(self, slot: int) -> int | None:
        """What runs there."""
        return self._tags.get(slot)

    def running(self) -> list[tuple[int, int]]:
        """(slot, tag) of all that run something."""
        return [(slot, tag) for slot, tag in self._tags.items() if tag is not None]
