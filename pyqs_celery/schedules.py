"""When a periodic task is due: intervals, crontabs and the sun.

A crontab goes by the clock on the wall in the application's zone: a time that a change to summer time skips is due when
the clock has jumped over it, and one that comes twice in autumn is due the first time.
https://docs.celeryq.dev/en/stable/userguide/periodic-tasks.html#schedules
"""

from __future__ import annotations

import re
from bisect import bisect_right
from calendar import monthrange
from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, timedelta, tzinfo
from datetime import timezone as _timezone
from functools import cached_property
from typing import Any

from pyqs_celery import _state
from pyqs_celery.exceptions import ImproperlyConfigured
from pyqs_celery.utils import time as times

__all__ = (
    "BaseSchedule",
    "ParseException",
    "crontab",
    "crontab_parser",
    "maybe_schedule",
    "schedstate",
    "schedule",
    "solar",
)

schedstate = namedtuple("schedstate", ("is_due", "next"))  # noqa: PYI024 - Celery's name and form
Cronspec = Any
FURTHEST_YEARS = 60
"""The 29th of February on a given weekday comes at least once in so many years."""


class ParseException(Exception):
    """A field of a crontab is not written as fields are."""


class BaseSchedule:
    """What all schedules share: the application, its zone, and the present (``nowfun``, else the application's)."""

    def __init__(self, nowfun: Callable[[], datetime] | None = None, app: Any = None) -> None:
        self.nowfun = nowfun
        self._app = app

    def now(self) -> datetime:
        """The present."""
        found: datetime = (self.nowfun or self.app.now)()
        return found

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """The time until it is due, given when it last ran; negative once it is overdue."""
        raise NotImplementedError

    def is_due(self, last_run_at: datetime) -> Any:
        """``schedstate(is_due, next)``: whether to run now, and the seconds until the next look."""
        raise NotImplementedError

    def maybe_make_aware(self, dt: datetime, naive_as_utc: bool = True) -> datetime:
        """A time with a zone; a naive one is in UTC, or in the application's zone."""
        return times.maybe_make_aware(dt, self.tz, naive_as_utc=naive_as_utc)

    @property
    def app(self) -> Any:
        """The application, else the current one."""
        return self._app or _state.get_current_app()

    @app.setter
    def app(self, app: Any) -> None:
        self._app = app

    @cached_property
    def tz(self) -> tzinfo:
        """The application's zone."""
        found: tzinfo = self.app.timezone
        return found

    @cached_property
    def utc_enabled(self) -> bool:
        """The setting ``enable_utc``."""
        return bool(self.app.conf.enable_utc)

    def to_local(self, dt: datetime) -> datetime:
        """A time in the application's zone."""
        return times.localize(dt, self.tz)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, BaseSchedule):
            return other.nowfun == self.nowfun
        return NotImplemented

    __hash__ = object.__hash__


class schedule(BaseSchedule):  # noqa: N801 - Celery's name
    """Every so often: ``run_every`` seconds or a timedelta; ``relative`` rounds to its unit (hourly at the full hour)."""

    relative = False

    def __init__(
        self,
        run_every: Any = None,
        relative: bool = False,
        nowfun: Callable[[], datetime] | None = None,
        app: Any = None,
    ) -> None:
        if isinstance(run_every, bool) or not isinstance(run_every, (int, float, timedelta, type(None))):
            raise TypeError(f"a schedule's run_every is seconds or a timedelta, not {run_every!r}")
        self.run_every = times.maybe_timedelta(run_every)
        self.relative = relative
        super().__init__(nowfun=nowfun, app=app)

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """The time until it is due."""
        last, now = self.maybe_make_aware(last_run_at), self.maybe_make_aware(self.now())
        return times.remaining(last, self.run_every, now, self.relative)

    def is_due(self, last_run_at: datetime) -> Any:
        """``(True, seconds of the interval)`` or ``(False, seconds left)``."""
        left = max(self.remaining_estimate(self.maybe_make_aware(last_run_at)).total_seconds(), 0)
        return schedstate(is_due=True, next=self.seconds) if left == 0 else schedstate(is_due=False, next=left)

    @property
    def seconds(self) -> float:
        """The interval."""
        return max(float(self.run_every.total_seconds()), 0)

    @property
    def human_seconds(self) -> str:
        """The interval in words."""
        return times.humanize_seconds(self.seconds)

    def __repr__(self) -> str:
        return f"<freq: {self.human_seconds}>"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, schedule):
            return bool(self.run_every == other.run_every)
        return bool(self.run_every == other)

    __hash__ = object.__hash__

    def __reduce__(self) -> Any:
        return type(self), (self.run_every, self.relative, self.nowfun)


class crontab_parser:  # noqa: N801 - Celery's name
    """Reads one field: ``*``, ``*/5``, ``1-10``, ``1-10/3``, ``mon-fri``, ``1,5,7-9``. Ranges may run over the end.

    ``max_`` is the number of values, ``min_`` the smallest.
    """

    ParseException = ParseException
    _RANGE = re.compile(r"^(\w+?)-(\w+)(?:/(\w+))?$")
    _STAR = re.compile(r"^\*(?:/(\w+))?$")

    def __init__(self, max_: int = 60, min_: int = 0) -> None:
        self.max_ = max_
        self.min_ = min_

    def parse(self, spec: str) -> set[int]:
        """The values a field means. Raises ParseException and ValueError."""
        found: set[int] = set()
        for part in spec.split(","):
            if not part:
                raise ParseException(f"empty part in {spec!r}")
            found.update(self._part(part))
        return found

    def _part(self, part: str) -> list[int]:
        star, span = self._STAR.match(part), self._RANGE.match(part)
        if star:
            return list(range(self.min_, self.min_ + self.max_))[:: self._step(star[1])]
        if span:
            first, last = self._number(span[1]), self._number(span[2])
            values = list(range(first, last + 1))
            if last < first:
                values = [*range(first, self.min_ + self.max_), *range(self.min_, last + 1)]
            return values[:: self._step(span[3])]
        return [self._number(part)]

    def _step(self, text: str | None) -> int:
        if text is None:
            return 1
        if not text.isdigit() or int(text) < 1:
            raise ParseException(f"a step must be a whole number above 0, not {text!r}")
        return int(text)

    def _number(self, text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            try:
                number = times.yearmonth(text) if self.max_ == 12 else times.weekday(text)
            except KeyError:
                kind = "month" if self.max_ == 12 else "weekday"
                raise ValueError(f"Invalid {kind} literal {text!r}.") from None
        most = self.min_ + self.max_ - 1
        if number > most:
            raise ValueError(f"Invalid end range: {number} > {most}.")
        if number < self.min_:
            raise ValueError(f"Invalid beginning range: {number} < {self.min_}.")
        return number


class crontab(BaseSchedule):  # noqa: N801 - Celery's name
    """Like a line of a crontab: runs when minute, hour, day and month all match the clock in the application's zone.

    Each field is a number, a list or set of numbers, or text: ``*``, ``*/15``, ``8-17``, ``1,15``, ``mon-fri``. Days of the
    week count from Sunday, 0. Raises ParseException, ValueError or TypeError for a field that is none, and ValueError for
    a day that no month has.
    """

    def __init__(
        self,
        minute: Cronspec = "*",
        hour: Cronspec = "*",
        day_of_week: Cronspec = "*",
        day_of_month: Cronspec = "*",
        month_of_year: Cronspec = "*",
        **kwargs: Any,
    ) -> None:
        self._orig_minute = str(minute) if isinstance(minute, int) else minute
        self._orig_hour = str(hour) if isinstance(hour, int) else hour
        self._orig_day_of_week = str(day_of_week) if isinstance(day_of_week, int) else day_of_week
        self._orig_day_of_month = str(day_of_month) if isinstance(day_of_month, int) else day_of_month
        self._orig_month_of_year = str(month_of_year) if isinstance(month_of_year, int) else month_of_year
        self._orig_kwargs = kwargs
        self.minute = self._expand_cronspec("minute", minute, 60)
        self.hour = self._expand_cronspec("hour", hour, 24)
        self.day_of_week = self._expand_cronspec("day_of_week", day_of_week, 7)
        self.day_of_month = self._expand_cronspec("day_of_month", day_of_month, 31, 1)
        self.month_of_year = self._expand_cronspec("month_of_year", month_of_year, 12, 1)
        if not any(min(self.day_of_month) <= monthrange(2024, month)[1] for month in self.month_of_year):
            raise ValueError(
                f"Invalid crontab: day_of_month {day_of_month!r} never occurs in month_of_year {month_of_year!r}."
            )
        super().__init__(**kwargs)

    @classmethod
    def from_string(cls, crontab: str) -> crontab:
        """From the five fields in a crontab's order: minute, hour, day of month, month, day of week. Raises ValueError."""
        fields = crontab.split()
        if len(fields) != 5:
            raise ValueError(f"a crontab has five fields, not {len(fields)}: {crontab!r}")
        minute, hour, day_of_month, month_of_year, day_of_week = fields
        return cls(minute, hour, day_of_week, day_of_month, month_of_year)

    @staticmethod
    def _expand_cronspec(field: str, cronspec: Cronspec, max_: int, min_: int = 0) -> set[int]:
        if isinstance(cronspec, bool):
            raise TypeError(f"crontab {field}: a number, text or a list of numbers, not {cronspec!r}")
        if isinstance(cronspec, int):
            found = {cronspec}
        elif isinstance(cronspec, str):
            try:
                found = crontab_parser(max_, min_).parse(cronspec)
            except (ParseException, ValueError) as exc:
                raise type(exc)(f"crontab {field}={cronspec!r}: {exc}") from exc
        elif isinstance(cronspec, Iterable):
            found = set(cronspec)
        else:
            raise TypeError(f"crontab {field}: a number, text or a list of numbers, not {cronspec!r}")
        for number in found:
            if isinstance(number, bool) or not isinstance(number, int) or not min_ <= number < min_ + max_:
                raise ValueError(
                    f"Invalid crontab pattern. {field}: valid range is {min_}-{min_ + max_ - 1}. {number!r} was found."
                )
        if not found:
            raise ValueError(f"Invalid crontab pattern. {field}: no value at all")
        return found

    # -- when --------------------------------------------------------------------------------------

    def _dates(self, first: date) -> Iterator[date]:
        """The days that match, from ``first`` on."""
        days, months = sorted(self.day_of_month), self.month_of_year
        weekdays = self.day_of_week
        for year in range(first.year, first.year + FURTHEST_YEARS):
            for month in sorted(months):
                if (year, month) < (first.year, first.month):
                    continue
                for day in days:
                    if day > monthrange(year, month)[1]:
                        break
                    found = date(year, month, day)
                    if found >= first and found.isoweekday() % 7 in weekdays:
                        yield found

    def next_after(self, last: datetime) -> datetime:
        """The first time after ``last`` (in the application's zone) that matches. Raises RuntimeError if there is none."""
        minutes, hours = sorted(self.minute), sorted(self.hour)
        for found in self._dates(last.date()):
            for hour in hours:
                if found == last.date() and hour < last.hour:
                    continue
                at = 0
                if found == last.date() and hour == last.hour:
                    at = bisect_right(minutes, last.minute)
                if at < len(minutes):
                    wall = datetime(found.year, found.month, found.day, hour, minutes[at], tzinfo=last.tzinfo)
                    # in the second of two hours of autumn the first one's minutes have passed
                    return (
                        wall
                        if wall.astimezone(_timezone.utc) > last.astimezone(_timezone.utc)
                        else wall.replace(fold=1)
                    )
        raise RuntimeError(f"{self!r} is never due")

    def remaining_delta(
        self, last_run_at: datetime, tz: Any = None, ffwd: Any = None
    ) -> tuple[datetime, timedelta, datetime]:
        """(last run, time from it to the next one, now), all in the application's zone."""
        last = self.to_local(self.maybe_make_aware(last_run_at))
        now = self.to_local(self.maybe_make_aware(self.now()))
        due = self.next_after(last)
        return last, due.astimezone(_timezone.utc) - last.astimezone(_timezone.utc), now

    def remaining_estimate(self, last_run_at: datetime, ffwd: Any = None) -> timedelta:
        """The time from now until it is due; negative once it is overdue."""
        last, delta, now = self.remaining_delta(last_run_at)
        return times.to_utc(last) + delta - times.to_utc(now)

    def is_due(self, last_run_at: datetime) -> Any:
        """``schedstate(is_due, next)``.

        A time that was missed is made up for once, unless it is longer ago than ``beat_cron_starting_deadline`` seconds.
        """
        left = self.remaining_estimate(last_run_at)
        if left > timedelta(0):
            return schedstate(is_due=False, next=left.total_seconds())
        now = self.now()
        following = self.remaining_estimate(now).total_seconds()
        return schedstate(is_due=not self._is_too_late(last_run_at, now), next=following)

    def _is_too_late(self, last_run_at: datetime, now: datetime) -> bool:
        """True if the latest time that was missed is beyond the deadline."""
        deadline = self.app.conf.beat_cron_starting_deadline
        if deadline is None:
            return False
        here = self.to_local(self.maybe_make_aware(now))
        earliest = here - timedelta(seconds=deadline)
        return self.next_after(max(self.to_local(self.maybe_make_aware(last_run_at)), earliest)) > here

    def __repr__(self) -> str:
        fields = (self._orig_minute, self._orig_hour, self._orig_day_of_month, self._orig_month_of_year)
        return f"<crontab: {' '.join(str(field) for field in (*fields, self._orig_day_of_week))} (m/h/dM/MY/d)>"

    def __reduce__(self) -> Any:
        fields = (self._orig_minute, self._orig_hour, self._orig_day_of_week)
        return type(self), (*fields, self._orig_day_of_month, self._orig_month_of_year), self._orig_kwargs

    def __setstate__(self, state: dict[str, Any]) -> None:
        # what kwargs were given: Celery's pickles hold the same
        self.__init__(  # type: ignore[misc]
            *self.__reduce__()[1], **{key: value for key, value in state.items() if key in ("nowfun", "app")}
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, crontab):
            return NotImplemented
        names = ("minute", "hour", "day_of_week", "day_of_month", "month_of_year")
        return super().__eq__(other) is True and all(getattr(self, name) == getattr(other, name) for name in names)

    __hash__ = object.__hash__


def maybe_schedule(s: Any, relative: bool = False, app: Any = None) -> Any:
    """A schedule from seconds or a timedelta; a schedule gets the application; anything else as it is."""
    if s is None:
        return None
    if isinstance(s, (float, int, timedelta)) and not isinstance(s, bool):
        return schedule(s, relative, app=app)
    if hasattr(s, "is_due"):
        s.app = app
    return s


_SUN = {
    "dawn_astronomical": ("-18", "next_rising", True),
    "dawn_nautical": ("-12", "next_rising", True),
    "dawn_civil": ("-6", "next_rising", True),
    "sunrise": ("-0:34", "next_rising", False),
    "solar_noon": ("0", "next_transit", False),
    "sunset": ("-0:34", "next_setting", False),
    "dusk_civil": ("-6", "next_setting", True),
    "dusk_nautical": ("-12", "next_setting", True),
    "dusk_astronomical": ("-18", "next_setting", True),
}


class solar(BaseSchedule):  # noqa: N801 - Celery's name
    """At a position of the sun: sunrise, sunset, solar_noon, dawn_civil, dusk_nautical ... at a place in degrees.

    Where the sun does not rise or set that day, it is looked at again after a day. Raises ValueError for another event or a
    place that is none, and ImproperlyConfigured without the extra ``solar``.
    """

    _all_events = frozenset(_SUN)

    def __init__(self, event: str, lat: float, lon: float, **kwargs: Any) -> None:
        if event not in _SUN:
            raise ValueError(f'Argument event "{event}" is invalid, must be one of {", ".join(sorted(_SUN))}.')
        if not -90 <= lat <= 90:
            raise ValueError(f"Argument lat {lat} is invalid, must be between -90 and 90.")
        if not -180 <= lon <= 180:
            raise ValueError(f"Argument lon {lon} is invalid, must be between -180 and 180.")
        try:
            self.ephem = __import__("ephem")
        except ImportError as exc:
            raise ImproperlyConfigured("solar schedules need ephem: pip install 'pyqs-celery[solar]'") from exc
        self.event, self.lat, self.lon = event, lat, lon
        horizon, self.method, self.use_center = _SUN[event]
        self.cal = self.ephem.Observer()
        self.cal.lat, self.cal.lon, self.cal.elev = str(lat), str(lon), 0
        self.cal.horizon, self.cal.pressure = horizon, 0
        super().__init__(**kwargs)

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """The time from now until the next such event after ``last_run_at``."""
        last = times.to_utc(self.maybe_make_aware(last_run_at))
        extra = {"use_center": self.use_center} if self.method != "next_transit" else {}
        try:
            found = getattr(self.cal, self.method)(self.ephem.Sun(), start=last.replace(tzinfo=None), **extra)
        except self.ephem.CircumpolarError:
            due = times.to_utc(self.cal.date.datetime()) + timedelta(days=1)
        else:
            due = times.to_utc(found.datetime())
        return due - times.to_utc(self.maybe_make_aware(self.now()))

    def is_due(self, last_run_at: datetime) -> Any:
        """``schedstate(is_due, next)``."""
        left = max(self.remaining_estimate(last_run_at).total_seconds(), 0)
        if left:
            return schedstate(is_due=False, next=left)
        return schedstate(is_due=True, next=max(self.remaining_estimate(self.now()).total_seconds(), 0))

    def __reduce__(self) -> Any:
        return type(self), (self.event, self.lat, self.lon)

    def __repr__(self) -> str:
        return f"<solar: {self.event} at latitude {self.lat}, longitude: {self.lon}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, solar):
            return NotImplemented
        return (self.event, self.lat, self.lon) == (other.event, other.lat, other.lon)

    __hash__ = object.__hash__
