"""The table's rows: which pain, which test, what must be seen on our side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from compat_tests.pains.stage import Stage


@dataclass(frozen=True)
class Seen:
    """What one side did. ``kind`` must be the same in every run; ``said`` has this run's figures."""

    kind: str
    said: str
    facts: dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One row of pains: what hurts, what the test does, what ``kind`` is its cure."""

    number: int
    pain: str
    test: str
    cured: str
    play: Callable[[Stage], Seen]
    seconds: int


ROWS: dict[int, Row] = {}


def row(
    number: int, pain: str, test: str, *, cured: str, seconds: int = 20
) -> Callable[[Callable[[Stage], Seen]], Callable[[Stage], Seen]]:
    """Enter a scenario into the table. ``seconds``: about how long it takes, so that the long ones begin first."""

    def enter(play: Callable[[Stage], Seen]) -> Callable[[Stage], Seen]:
        assert number not in ROWS
        ROWS[number] = Row(number, pain, test, cured, play, seconds)
        return play

    return enter
