"""``celery.utils.time``: arithmetic with times under Celery's names, since schedulers of others import it.

What the package itself needs of instants on the wire is in ``utils/times.py``.
"""

from __future__ import annotations

import random
import time as _time
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from datetime import timezone as _timezone
from typing import Any

from pyqs_celery.utils.times import parse_iso, zone

__all__ = (
    "adjust_timestamp",
    "delta_resolution",
    "get_exponential_backoff_interval",
    "humanize_seconds",
    "is_naive",
    "localize",
    "make_aware",
    "maybe_iso8601",
    "maybe_make_aware",
    "maybe_timedelta",
    "rate",
    "remaining",
    "timezone",
    "to_utc",
    "utcoffset",
    "weekday",
    "yearmonth",
)

WEEKDAYS = {name: number for number, name in enumerate("sun mon tue wed thu fri sat".split())}
MONTHS = {name: number for number, name in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}
_UNITS = (
    (86_400.0, "day", "{:.2f}"),
    (3600.0, "hour", "{:.2f}"),
    (60.0, "minute", "{:.2f}"),
    (1.0, "second", "{:.2f}"),
)


class _Zones:
    """Zones by name: ``timezone.utc``, ``timezone.local``, ``timezone.tz_or_local(name)``."""

    utc = _timezone.utc

    @property
    def local(self) -> tzinfo:
        """The zone of this machine."""
        found = datetime.now().astimezone().tzinfo
        assert found is not None
        return found

    @staticmethod
    def get_timezone(zone_name: Any) -> tzinfo:
        """A zone by name. Raises ImproperlyConfigured."""
        found: tzinfo = zone(zone_name)
        return found

    def tz_or_local(self, tzinfo: Any = None) -> tzinfo:
        """A zone, by name or as it is; this machine's for None."""
        return self.local if tzinfo is None else self.get_timezone(tzinfo)

    def to_local(self, dt: datetime, local: Any = None, orig: Any = None) -> datetime:
        """``dt`` (naive: in ``orig``, else UTC) in the zone ``local``, else this machine's."""
        return make_aware(dt, orig or self.utc).astimezone(self.tz_or_local(local))

    def to_system(self, dt: datetime) -> datetime:
        """``dt`` in this machine's zone."""
        return dt.astimezone(self.local)

    to_local_fallback = to_system


timezone = _Zones()


def is_naive(dt: datetime) -> bool:
    """True if ``dt`` names no zone."""
    return dt.tzinfo is None or dt.tzinfo.utcoffset(dt) is None


def make_aware(dt: datetime, tz: tzinfo) -> datetime:
    """A naive time in the zone ``tz``; an aware one as it is."""
    return dt.replace(tzinfo=tz) if is_naive(dt) else dt


def localize(dt: datetime, tz: tzinfo) -> datetime:
    """``dt`` in the zone ``tz``; a naive one is in it already."""
    return make_aware(dt, tz).astimezone(tz)


def to_utc(dt: datetime) -> datetime:
    """``dt`` in UTC; a naive one is in UTC already."""
    return localize(dt, _timezone.utc)


def maybe_make_aware(dt: datetime, tz: Any = None, naive_as_utc: bool = True) -> datetime:
    """An aware time as it is; a naive one (UTC, or in ``tz`` unless ``naive_as_utc``) in the zone ``tz``."""
    if not is_naive(dt):
        return dt
    wanted = _timezone.utc if tz is None else timezone.tz_or_local(tz)
    return make_aware(dt, _timezone.utc if naive_as_utc else wanted).astimezone(wanted)


def maybe_timedelta(delta: Any) -> Any:
    """Seconds as a timedelta; anything else as it is."""
    return timedelta(seconds=delta) if isinstance(delta, (int, float)) else delta


def maybe_iso8601(dt: Any) -> datetime | None:
    """A time from ISO 8601 text; a time or None as it is."""
    return parse_iso(dt) if isinstance(dt, str) else dt


def delta_resolution(dt: datetime, delta: timedelta) -> datetime:
    """``dt`` cut down to the largest unit of ``delta``: days, hours, minutes or seconds."""
    seconds = max(delta.total_seconds(), 0)
    fields = {"hour": 0, "minute": 0, "second": 0, "microsecond": 0}
    names = list(fields)
    for index, size in enumerate((86_400, 3600, 60, 1)):
        if seconds >= size:
            return dt.replace(**dict.fromkeys(names[index:], 0))  # type: ignore[arg-type]
    return dt


def remaining(start: datetime, ends_in: Any, now: datetime | None = None, relative: bool = False) -> timedelta:
    """The time from ``now`` to ``start + ends_in``, negative once it has passed; by the clock on the wall of ``start``.

    ``relative`` cuts the end down to the unit of ``ends_in``.
    """
    now = now or datetime.now(_timezone.utc)
    end = start + ends_in
    if relative:
        end = delta_resolution(end, ends_in).replace(microsecond=0)
    return to_utc(end) - to_utc(now)


def rate(r: Any) -> float:
    """``"100/m"`` and its like as a number a second; 0 for no limit. Raises ValueError."""
    if not r:
        return 0.0
    if not isinstance(r, str):
        return float(r)
    count, _, unit = r.partition("/")
    return float(count) / {"s": 1, "m": 60, "h": 3600}[unit.strip() or "s"]


def weekday(name: str) -> int:
    """0 for Sunday ... 6 for Saturday, by the first three letters. Raises KeyError."""
    return WEEKDAYS[name[:3].lower()]


def yearmonth(name: str) -> int:
    """1 for January ... 12 for December, by the first three letters. Raises KeyError."""
    return MONTHS[name[:3].lower()]


def humanize_seconds(secs: float, prefix: str = "", sep: str = "", now: str = "now", microseconds: bool = False) -> str:
    """``1.04 days``, ``4.20 seconds``; ``now`` for nothing."""
    secs = float(secs)
    for size, unit, form in _UNITS:
        if secs >= size:
            count = secs / size
            return f"{prefix}{sep}{form.format(count)} {unit}{'s' if count > 1 else ''}"
    if microseconds and secs > 0:
        return f"{prefix}{sep}{secs:.2f} seconds"
    return now


def get_exponential_backoff_interval(factor: int, retries: int, maximum: int, full_jitter: bool = False) -> int:
    """Seconds before the next attempt: ``factor`` doubled each time, ``maximum`` at most, random below it if asked."""
    countdown: int = min(maximum, factor * 2**retries)
    if full_jitter:
        countdown = random.randrange(countdown + 1)
    return max(0, countdown)


def utcoffset(time: Any = _time, localtime: Callable[..., _time.struct_time] = _time.localtime) -> int:
    """The offset of this machine from UTC in hours, west positive."""
    seconds = time.altzone if time.daylight and localtime().tm_isdst else time.timezone
    return int(seconds) // 3600


def adjust_timestamp(ts: float, offset: int, here: Callable[..., int] = utcoffset) -> float:
    """A timestamp of a machine whose offset is ``offset`` hours, as one of this machine."""
    return ts - (offset - here()) * 3600
