"""What the steady worker used over time: slopes of memory, and whether descriptors and threads stay as they are."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from tests.soak.fleet import Usage

WARM_UP = 0.2
"""The first part of the samples, which is not judged."""
PER_TASKS = 200_000
SLOPE_MOST_MIB = 5.0
ENOUGH_TASKS = 100_000
"""Fewer say nothing about a slope for 200,000, nor about connections that are opened as they are needed."""
MORE_DESCRIPTORS = 16
"""Connections to SQS are kept once they are open: as many as were ever busy at once, until a client is made anew. So a burst of
trouble may raise their number once; a leak raises it again and again."""


@dataclass(frozen=True)
class Sample:
    """At an instant, after so many messages deleted."""

    at: float
    done: int
    usages: tuple[Usage, ...]


@dataclass(frozen=True)
class Course:
    """One process over the time after the warm-up."""

    role: str
    pid: int
    samples: int
    first_mib: float
    last_mib: float
    slope_mib: float
    """For 200,000 tasks."""
    descriptors: tuple[int, ...]
    """The fewest in each quarter: connections come and go with trouble, a leak raises the floor from each quarter to the next."""
    threads: tuple[int, int]
    done: int

    @property
    def faults(self) -> list[str]:
        found = []
        if self.done >= ENOUGH_TASKS and self.slope_mib > SLOPE_MOST_MIB:
            found.append(f"{self.role} {self.pid} grows by {self.slope_mib:.1f} MiB for 200,000 tasks")
        floors = self.descriptors
        rises = all(earlier < later for earlier, later in itertools.pairwise(floors))
        if self.done >= ENOUGH_TASKS and rises and floors[-1] > floors[0] + MORE_DESCRIPTORS:
            found.append(f"{self.role} {self.pid} has ever more descriptors, at least {floors} in each quarter")
        return found

    def told(self) -> dict[str, Any]:
        return vars(self)


def slope(points: list[tuple[float, float]]) -> float:
    """Of the straight line nearest to the points, by least squares; 0 for points that have none."""
    if len(points) < 2:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def courses(samples: list[Sample]) -> list[Course]:
    """Those processes that lived from the warm-up to the end."""
    judged = samples[int(len(samples) * WARM_UP) :]
    if not judged:
        return []
    found = []
    for last in judged[-1].usages:
        rows = [(sample.done, usage) for sample in judged for usage in sample.usages if usage.pid == last.pid]
        if len(rows) < len(judged) or len(rows) < 2:
            continue
        half, quarter = len(rows) // 2, max(1, len(rows) // 4)
        quarters = range(0, 4 * quarter, quarter) if len(rows) >= 4 else (0, half)
        early, late = [usage for _, usage in rows[:half]], [usage for _, usage in rows[half:]]
        found.append(
            Course(
                last.role,
                last.pid,
                len(rows),
                rows[0][1].kib / 1024,
                last.kib / 1024,
                slope([(done, usage.kib / 1024) for done, usage in rows]) * PER_TASKS,
                tuple(min(usage.descriptors for _, usage in rows[part : part + quarter]) for part in quarters),
                (min(usage.threads for usage in early), min(usage.threads for usage in late)),
                rows[-1][0] - rows[0][0],
            )
        )
    return found
