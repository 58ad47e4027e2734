"""One line of a schedule: which task, when, with what, and when it last ran."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from pyqs_celery.schedules import maybe_schedule


class BeatLazyFunc:
    """An argument of an entry that is worked out at each tick: ``BeatLazyFunc(datetime.now)``."""

    def __init__(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._func = func
        self._func_params = {"args": args, "kwargs": kwargs}

    def __call__(self) -> Any:
        """The value now."""
        return self.delay()

    def delay(self) -> Any:
        """The value now."""
        return self._func(*self._func_params["args"], **self._func_params["kwargs"])  # type: ignore[arg-type]


def evaluated(value: Any) -> Any:
    """``value``, or what it gives now if it is a BeatLazyFunc."""
    return value() if isinstance(value, BeatLazyFunc) else value


class ScheduleEntry:
    """An entry. ``schedule`` is anything with ``is_due(last_run_at)``; numbers are seconds.

    ``options`` go to ``apply_async``; ``relative`` rounds an interval to its unit. Interface:
    https://docs.celeryq.dev/en/stable/reference/celery.beat.html
    """

    name: Any = None
    schedule: Any = None
    args: Any = None
    kwargs: Any = None
    options: Any = None
    last_run_at: Any = None
    total_run_count: int = 0

    def __init__(
        self,
        name: str | None = None,
        task: str | None = None,
        last_run_at: datetime | None = None,
        total_run_count: int | None = None,
        schedule: Any = None,
        args: Any = (),
        kwargs: Any = None,
        options: Any = None,
        relative: bool = False,
        app: Any = None,
    ) -> None:
        self.app = app
        self.name = name
        self.task = task
        self.args = args
        self.kwargs = kwargs or {}
        self.options = options or {}
        self.schedule = maybe_schedule(schedule, relative, app=app)
        self.last_run_at = last_run_at or self.default_now()
        self.total_run_count = total_run_count or 0

    def default_now(self) -> datetime:
        """The present, as the schedule sees it."""
        found: datetime = (self.schedule if hasattr(self.schedule, "now") else self.app).now()
        return found

    _default_now = default_now

    def next(self, last_run_at: datetime | None = None) -> ScheduleEntry:
        """The entry after a run: the same with a new ``last_run_at`` and one more run."""
        last = last_run_at or self.default_now()
        facts = {**dict(self), "last_run_at": last, "total_run_count": self.total_run_count + 1}
        return type(self)(**facts)

    def __next__(self) -> ScheduleEntry:
        return self.next()

    def update(self, other: ScheduleEntry) -> None:
        """Take over what a person may edit from another entry; when it last ran stays."""
        self.__dict__.update(
            {
                "task": other.task,
                "schedule": other.schedule,
                "args": other.args,
                "kwargs": other.kwargs,
                "options": other.options,
            }
        )

    def is_due(self) -> Any:
        """(whether to run now, seconds until the next look)."""
        return self.schedule.is_due(self.last_run_at)

    def editable_fields_equal(self, other: ScheduleEntry) -> bool:
        """True if the two differ only in when they ran."""
        return all(
            getattr(self, field) == getattr(other, field) for field in ("task", "args", "kwargs", "options", "schedule")
        )

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(vars(self).items())

    def __reduce__(self) -> Any:
        facts = (self.name, self.task, self.last_run_at, self.total_run_count, self.schedule)
        return type(self), (*facts, self.args, self.kwargs, self.options)

    def __lt__(self, other: object) -> Any:
        # two entries due at the same instant: a heap only needs them to be comparable
        return id(self) < id(other) if isinstance(other, ScheduleEntry) else NotImplemented

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ScheduleEntry) and self.editable_fields_equal(other)

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        shown = [repr(arg) for arg in self.args or ()] + [
            f"{key}={value!r}" for key, value in (self.kwargs or {}).items()
        ]
        return f"<{type(self).__name__}: {self.name} {self.task}({', '.join(shown)}) {self.schedule!r}>"
