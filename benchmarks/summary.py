"""From rows to figures: medians over rounds, and ratios of each trial to another peer's in the same round."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.rows import Row


@dataclass(frozen=True, slots=True)
class Figure:
    """A median, with the least and the most it is the median of."""

    median: float
    least: float
    most: float
    rounds: int


def figure(values: Sequence[float]) -> Figure | None:
    """Of all values; None if there are none."""
    return Figure(statistics.median(values), min(values), max(values), len(values)) if values else None


@dataclass(frozen=True, slots=True)
class Group:
    """All rows of one case in one variant."""

    case: str
    variant: str
    rows: tuple[Row, ...]

    @property
    def peers(self) -> list[str]:
        """In the order of the first round."""
        return list(dict.fromkeys(row.peer for row in self.rows))

    def of(self, peer: str) -> list[Row]:
        """One peer's rows."""
        return [row for row in self.rows if row.peer == peer]

    def numbers(self, peer: str, key: str) -> dict[int, float]:
        """A measure by round, where there is one."""
        found = {row.round: row.measures.get(key) for row in self.of(peer)}
        return {place: float(value) for place, value in found.items() if isinstance(value, (int, float))}

    def value(self, peer: str, key: str) -> Figure | None:
        """The median of a measure."""
        return figure(list(self.numbers(peer, key).values()))

    def text(self, peer: str, key: str) -> str | None:
        """A measure that is text, of the last round that has it."""
        found = [value for row in self.of(peer) if isinstance(value := row.measures.get(key), str)]
        return found[-1] if found else None

    def ratio(self, peer: str, key: str, to: str) -> Figure | None:
        """The median of the ratios round by round, so that what slows the machine down for a while slows both.

        A round in which one of the two has no figure, or a reference of 0, gives none.
        """
        own, reference = self.numbers(peer, key), self.numbers(to, key)
        return figure([value / reference[place] for place, value in own.items() if reference.get(place)])

    def cut_off(self, peer: str) -> int:
        """How many rounds were cut off."""
        return sum(row.cut_off for row in self.of(peer))

    def errors(self, peer: str) -> list[str]:
        """What went wrong, each sentence once."""
        return list(dict.fromkeys(row.error for row in self.of(peer) if row.error))

    def note(self, peer: str) -> str | None:
        """Why it was not asked."""
        return next((row.note for row in self.of(peer) if row.note), None)


def groups(rows: Sequence[Row]) -> list[Group]:
    """Rows by case and variant, in the order in which these first came."""
    keys = list(dict.fromkeys((row.case, row.variant) for row in rows))
    return [
        Group(case, variant, tuple(row for row in rows if (row.case, row.variant) == (case, variant)))
        for case, variant in keys
    ]
