"""What a case is told, and what it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.trial import Trial

Measures = dict[str, float | str | None]


@dataclass(frozen=True, slots=True)
class Setting:
    """How a case is played.

    ``tasks`` is how many; ``waiting`` how many of them are put into the queue at a time (None: all at once);
    ``limit_seconds`` when a trial is cut off; ``seconds`` how long an idle worker is watched.
    """

    tasks: int = 1000
    children: int = 4
    latency_ms: float = 0.0
    queues: int = 1
    waiting: int | None = None
    limit_seconds: float = 6.0
    seconds: float = 100.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured. ``cut_off``: the limit came before the end, so figures are of a part of the tasks."""

    measures: Measures = field(default_factory=dict)
    cut_off: bool = False


Case = Callable[[Trial, Setting], Outcome]


def per_1000(amount: float, tasks: int, digits: int = 3) -> float | None:
    """An amount for 1,000 tasks; None if there were none."""
    return round(amount / tasks * 1000, digits) if tasks else None
