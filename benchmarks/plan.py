"""What a full run plays, how often, and what a quick one does. Sizes are chosen so that a full run fits into 40 minutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from benchmarks.cases import draining, producing, quiet
from benchmarks.cases.setting import Case, Setting
from benchmarks.registry import CELERY

CASES: dict[str, Case] = {
    "drain": draining.drain,
    "io": draining.io,
    "produce": producing.produce,
    "bulk": producing.bulk,
    "import": producing.importing,
    "first": producing.first,
    "latency": quiet.latency,
    "memory": draining.memory,
    "queues": draining.drain,
    "backlog": draining.backlog,
    "children": draining.drain,
}
"""Every case but ``idle``, whose workers are all watched at a time (``quiet.IdleWatch``)."""
IDLE = "idle"
CASE_NAMES = (*CASES, IDLE)

QUICK_TASKS = 500
QUICK_IDLE_SECONDS = 20.0
_ALREADY_CUT_OFF = {CELERY: "cut off in drain already; celery-tuned stands for both"}


@dataclass(frozen=True, slots=True)
class Planned:
    """One case in one variant. ``without`` are peers that are not asked, with the reason."""

    case: str
    variant: str
    setting: Setting
    rounds: int = 1
    without: dict[str, str] = field(default_factory=dict)


def full() -> list[Planned]:
    """The run whose table stands in docs/performance.rst."""
    return [
        *(
            Planned(
                "drain",
                f"{children} children, {latency} ms a request",
                Setting(tasks=5000, children=children, latency_ms=latency, limit_seconds=5.0),
                rounds=5,
            )
            for children in (4, 10)
            for latency in (0, 10)
        ),
        Planned(
            "io",
            "10 children, tasks of 50 ms, 10 ms a request",
            Setting(tasks=1000, children=10, latency_ms=10, limit_seconds=8.0),
            rounds=2,
        ),
        *(
            Planned(
                "produce",
                f"{latency} ms a request",
                Setting(tasks=tasks, latency_ms=latency, limit_seconds=5.0),
                rounds=rounds,
            )
            for latency, tasks, rounds in ((0, 1000, 5), (10, 200, 3))
        ),
        Planned("bulk", "1,000 tasks, 0 ms a request", Setting(), rounds=5),
        Planned("import", "a producer's first line", Setting(), rounds=5),
        Planned("first", "process start to first message", Setting(), rounds=5),
        *(
            Planned(IDLE, _queues(number), Setting(queues=number, seconds=seconds))
            for number, seconds in ((1, 120.0), (20, 60.0))
        ),
        *(
            Planned(
                "latency",
                f"{_queues(number)}, 10 ms a request",
                Setting(tasks=200, children=10, latency_ms=10, queues=number),
            )
            for number in (1, 20)
        ),
        Planned("memory", "10 children", Setting(tasks=10_000, children=10, limit_seconds=20.0)),
        *_scale(),
    ]


def _scale() -> list[Planned]:
    return [
        *(
            Planned(
                "queues",
                _queues(number),
                Setting(tasks=5000, children=4, queues=number, limit_seconds=5.0),
                without=_ALREADY_CUT_OFF | ({"pyqs": "starts a process for each queue"} if number > 20 else {}),
            )
            for number in (1, 20, 200)
        ),
        *(
            Planned(
                "backlog",
                f"{number:,} waiting",
                Setting(tasks=tasks, waiting=number, limit_seconds=5.0),
                without=_ALREADY_CUT_OFF,
            )
            for number, tasks in ((10, 1000), (1000, 5000), (100_000, 5000), (1_000_000, 5000))
        ),
        *(
            Planned(
                "children",
                "1 child" if number == 1 else f"{number} children",
                Setting(tasks=5000, children=number, limit_seconds=5.0),
                without=_ALREADY_CUT_OFF,
            )
            for number in (1, 4, 16, 64)
        ),
    ]


def _queues(number: int) -> str:
    return "1 queue" if number == 1 else f"{number} queues"


def choose(
    cases: Sequence[str],
    *,
    quick: bool = False,
    rounds: int | None = None,
    tasks: int | None = None,
    limit_seconds: float | None = None,
) -> list[Planned]:
    """The full plan of these cases, with what is given in place of its own numbers. Raises ValueError."""
    unknown = [name for name in cases if name not in CASE_NAMES]
    if unknown:
        raise ValueError(f"no case {', '.join(unknown)}; there are {', '.join(CASE_NAMES)}")
    chosen = []
    for planned in full():
        if planned.case in cases:
            setting = _shorter(planned.setting) if quick else planned.setting
            setting = replace(
                setting,
                tasks=tasks or setting.tasks,
                limit_seconds=limit_seconds or setting.limit_seconds,
            )
            chosen.append(replace(planned, setting=setting, rounds=rounds or (1 if quick else planned.rounds)))
    return chosen


def _shorter(setting: Setting) -> Setting:
    return replace(setting, tasks=min(setting.tasks, QUICK_TASKS), seconds=QUICK_IDLE_SECONDS)
