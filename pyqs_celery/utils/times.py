"""Instants as text on the wire and as epoch seconds."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any

_ISO = re.compile(
    r"^\s*(\d{4})-?(\d{2})-?(\d{2})"
    r"(?:[T ](\d{2}):?(\d{2})(?::?(\d{2})(?:[.,](\d{1,9}))?)?\s*(Z|z|[+-]\d{2}(?::?\d{2})?)?)?\s*$"
)

LONGEST_ISO = 80
"""Longer text is no time, however many blanks are in it."""


def parse_iso(text: str) -> datetime:
    """Read an ISO 8601 instant as Celery's versions write it; naive if it names no offset.

    Raises ValueError for anything else. Wider than ``datetime.fromisoformat`` of Python 3.10: ``Z``, fractions of any
    length and basic forms are read too.
    """
    match = _ISO.match(text) if len(text) <= LONGEST_ISO else None
    if match is None:
        raise ValueError(f"not an ISO 8601 time: {text[:80]!r}")
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    micro = int((fraction or "0")[:6].ljust(6, "0"))
    tzinfo = None if zone is None else _offset(zone)
    return datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), micro, tzinfo)


def _offset(zone: str) -> timezone:
    if zone in "Zz":
        return timezone.utc
    digits = zone[1:].replace(":", "").ljust(4, "0")
    delta = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-delta if zone[0] == "-" else delta)


def to_epoch(value: Any, *, naive_is_utc: bool = True) -> float | None:
    """Turn an instant from a message (ISO text or datetime) into epoch seconds; None stays None.

    A naive time is UTC, or this machine's local time if ``naive_is_utc`` is False (protocol 1 with ``utc``
    false). Raises ValueError for what is no time.
    """
    if value is None:
        return None
    if isinstance(value, str):
        value = parse_iso(value)
    if not isinstance(value, datetime):
        raise ValueError(f"not a time: {value!r:.80}")
    if value.tzinfo is None and naive_is_utc:
        value = value.replace(tzinfo=timezone.utc)
    try:
        return float(value.timestamp())
    except (OverflowError, OSError) as exc:
        raise ValueError(f"a time out of range: {value!r:.80}") from exc


def zone(name: Any, *, utc: bool = True) -> Any:
    """The time zone a setting names: text, a tzinfo, or None for UTC (or local time if ``utc`` is False).

    Raises ImproperlyConfigured for a name that is no zone.
    """
    if name is None or name == "":
        return timezone.utc if utc else datetime.now().astimezone().tzinfo
    if not isinstance(name, str):
        return name
    if name.upper() == "UTC":
        return timezone.utc
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    from pyqs_celery.exceptions import ImproperlyConfigured

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as exc:
        raise ImproperlyConfigured(f"timezone {name!r} is not known; use a name such as Europe/Berlin") from exc
