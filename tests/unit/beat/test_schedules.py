"""Intervals, crontabs and the sun: when they are due, what is refused, and how they travel."""

from __future__ import annotations

import pickle
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from pyqs_celery import Celery
from pyqs_celery.schedules import ParseException, crontab, maybe_schedule, schedule, solar

UTC = timezone.utc
BERLIN = ZoneInfo("Europe/Berlin")


def app_in(zone="UTC", **settings):
    return Celery("s", broker="memory://schedules", timezone=zone, set_as_current=False, **settings)


def at(when, *, app=None, **fields):
    return crontab(**fields, nowfun=lambda: when, app=app or app_in())


# -- intervals -----------------------------------------------------------------------------------------


def test_an_interval_is_due_when_it_has_passed():
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)
    every = schedule(60, nowfun=lambda: now, app=app_in())

    assert every.is_due(now - timedelta(seconds=60)) == (True, 60)
    assert every.is_due(now - timedelta(seconds=20)) == (False, 40)


def test_a_relative_interval_is_due_at_the_full_unit():
    now = datetime(2026, 1, 1, 12, 59, tzinfo=UTC)
    hourly = schedule(timedelta(hours=1), relative=True, nowfun=lambda: now, app=app_in())

    assert hourly.is_due(datetime(2026, 1, 1, 12, 30, tzinfo=UTC)) == (False, 60)


@pytest.mark.parametrize("value", ["60", True, [1]])
def test_what_is_no_interval(value):
    with pytest.raises(TypeError, match="seconds or a timedelta"):
        schedule(value)


def test_numbers_become_schedules():
    assert maybe_schedule(10) == schedule(timedelta(seconds=10))
    assert repr(maybe_schedule(90)) == "<freq: 1.50 minutes>"
    assert maybe_schedule("x") == "x"


# -- crontab: fields -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "name", "values"),
    [
        ({"minute": "*/15"}, "minute", {0, 15, 30, 45}),
        ({"minute": 7}, "minute", {7}),
        ({"minute": {1, 2}}, "minute", {1, 2}),
        ({"hour": "8-11"}, "hour", {8, 9, 10, 11}),
        ({"hour": "22-2"}, "hour", {22, 23, 0, 1, 2}),
        ({"hour": "8-17/3,23"}, "hour", {8, 11, 14, 17, 23}),
        ({"day_of_week": "mon-fri"}, "day_of_week", {1, 2, 3, 4, 5}),
        ({"day_of_week": "Saturday,sunday"}, "day_of_week", {6, 0}),
        ({"month_of_year": "nov-feb"}, "month_of_year", {11, 12, 1, 2}),
        ({"day_of_month": "*/10"}, "day_of_month", {1, 11, 21, 31}),
    ],
)
def test_every_form_of_a_field(fields, name, values):
    assert getattr(crontab(**fields), name) == values


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"minute": "61"}, ValueError, "minute='61'"),
        ({"minute": 61}, ValueError, "0-59"),
        ({"minute": "x"}, ValueError, "minute='x'"),
        ({"minute": ""}, ParseException, "empty part"),
        ({"minute": "*/0"}, ParseException, "above 0"),
        ({"minute": 1.5}, TypeError, "minute"),
        ({"minute": []}, ValueError, "no value"),
        ({"day_of_week": "7"}, ValueError, "7 > 6"),
        ({"day_of_month": 0}, ValueError, "1-31"),
        ({"month_of_year": "foo"}, ValueError, "month"),
        ({"day_of_month": 30, "month_of_year": 2}, ValueError, "never occurs"),
    ],
)
def test_what_is_no_field_is_named(fields, error, words):
    with pytest.raises(error, match=words):
        crontab(**fields)


def test_a_line_of_a_crontab():
    assert crontab.from_string("5 4 1 * sun") == crontab(5, 4, "sun", 1, "*")
    with pytest.raises(ValueError, match="five fields"):
        crontab.from_string("* * *")


def test_a_crontab_travels_and_shows_itself():
    entry = crontab("*/5", {3}, "mon", 1, 2)

    assert pickle.loads(pickle.dumps(entry)) == entry
    assert repr(entry) == "<crontab: */5 {3} 1 2 mon (m/h/dM/MY/d)>"
    assert entry._orig_minute == "*/5"
    assert entry != crontab("*/6", {3}, "mon", 1, 2)


# -- crontab: when -------------------------------------------------------------------------------------


def test_it_is_due_once_at_its_minute_and_then_waits():
    now = datetime(2026, 11, 24, 12, 30, 5, tzinfo=UTC)
    entry = at(now, minute=30)

    assert entry.is_due(datetime(2026, 11, 24, 12, 0, tzinfo=UTC)) == (True, 3595)
    assert entry.is_due(now) == (False, 3595)


def test_the_end_of_a_month_and_leap_days():
    assert at(datetime(2026, 2, 1, tzinfo=UTC), day_of_month=31).next_after(
        datetime(2026, 2, 1, tzinfo=UTC)
    ) == datetime(2026, 3, 31, tzinfo=UTC)
    assert at(datetime(2026, 2, 1, tzinfo=UTC), day_of_month=29, month_of_year=2, hour=0, minute=0).next_after(
        datetime(2026, 2, 1, tzinfo=UTC)
    ) == datetime(2028, 2, 29, tzinfo=UTC)


def test_a_time_that_the_clock_jumps_over_comes_when_it_has_jumped():
    # given 02:30 every day in Berlin, and the night in which 02:00 becomes 03:00
    app = app_in("Europe/Berlin")
    before = datetime(2026, 3, 29, 1, 59, tzinfo=BERLIN)
    entry = at(before, app=app, hour=2, minute=30)

    # then it is due an hour later than the wall says, and the day after as always
    assert entry.is_due(before - timedelta(hours=3)).next == 31 * 60
    later = datetime(2026, 3, 29, 3, 30, tzinfo=BERLIN)
    assert at(later, app=app, hour=2, minute=30).is_due(later).next == 23 * 3600


def test_a_time_that_comes_twice_is_due_once():
    app = app_in("Europe/Berlin")
    first = datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN)
    second = first.replace(fold=1)

    entry = at(second, app=app, hour=2, minute=30)

    assert not entry.is_due(first).is_due
    assert entry.is_due(first).next == 24 * 3600


def test_minutes_of_the_second_equal_hour_do_not_storm():
    app = app_in("Europe/Berlin")
    now = datetime(2026, 10, 25, 2, 16, 45, tzinfo=BERLIN, fold=1)

    assert at(now, app=app, minute="*").is_due(now) == (False, 15)


def test_a_missed_time_is_made_up_for_once_unless_it_is_too_long_ago():
    now = datetime(2026, 11, 24, 12, 10, tzinfo=UTC)
    missed = datetime(2026, 11, 24, 11, 0, tzinfo=UTC)

    assert at(now, minute=0).is_due(missed).is_due
    assert at(now, minute=0, app=app_in(beat_cron_starting_deadline=900)).is_due(missed).is_due
    assert at(now, minute=0, app=app_in(beat_cron_starting_deadline=60)).is_due(missed) == (False, 3000)


def test_a_naive_last_run_is_utc():
    now = datetime(2026, 11, 24, 12, 10, tzinfo=UTC)

    assert at(now, minute=0).is_due(datetime(2026, 11, 24, 12, 1)).is_due is False


# -- the sun -------------------------------------------------------------------------------------------


def test_noon_by_the_sun():
    now = datetime(2026, 6, 1, 0, 0, tzinfo=UTC)
    noon = solar("solar_noon", 51.5, 0.0, nowfun=lambda: now, app=app_in())

    assert 11.8 * 3600 < noon.is_due(now).next < 12.2 * 3600
    assert pickle.loads(pickle.dumps(noon)) == noon


def test_where_the_sun_does_not_set_it_is_looked_at_again_after_a_day():
    now = datetime(2026, 6, 21, tzinfo=UTC)

    assert solar("sunset", 80, 0, nowfun=lambda: now, app=app_in()).is_due(now).next > 3600


@pytest.mark.parametrize("arguments", [("moonrise", 0, 0), ("sunset", 91, 0), ("sunset", 0, 181)])
def test_no_such_event_or_place(arguments):
    with pytest.raises(ValueError, match="invalid"):
        solar(*arguments)
