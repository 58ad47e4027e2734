"""The small things everything else stands on."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from pyqs_celery.utils.backoff import backoff
from pyqs_celery.utils.dispatch import Signal
from pyqs_celery.utils.log import RESERVED, Sometimes, Troubles, get_task_logger
from pyqs_celery.utils.text import one_line, saferepr
from pyqs_celery.utils.times import parse_iso, to_epoch


@pytest.mark.parametrize("value", [1, "é", [1, "a"], (1,), {"a": [1, {2}]}, None, 1.5, set(), {1}, frozenset({1})])
def test_small_values_are_shown_as_python_shows_them(value):
    assert saferepr(value) == repr(value)


def test_long_and_endless_values_are_cut():
    endless: list = []
    endless.append(endless)
    assert len(saferepr(["x" * 10_000] * 10, 1024)) < 1200
    assert "Recursion" in saferepr(endless)


def test_a_value_that_cannot_be_shown_does_not_stop_anybody():
    class Bad:
        def __repr__(self):
            raise RuntimeError

    assert "Unrepresentable" in saferepr([Bad()])


def test_a_log_line_stays_one_line():
    assert one_line("a\nb\x1b[31mc\r\n") == one_line("a\nb\x1b[31mc\r\n").splitlines()[0]
    assert "\x1b" not in one_line("\x1b[2J")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2031-02-03T04:05:06Z", datetime(2031, 2, 3, 4, 5, 6, tzinfo=timezone.utc)),
        ("2031-02-03T04:05:06.789+00:00", datetime(2031, 2, 3, 4, 5, 6, 789000, timezone.utc)),
        ("2031-02-03T09:35:06+05:30", datetime(2031, 2, 3, 4, 5, 6, tzinfo=timezone.utc)),
        ("2031-02-03", datetime(2031, 2, 3)),
    ],
)
def test_instants_as_celery_versions_write_them(text, moment):
    assert parse_iso(text) == moment


@pytest.mark.parametrize("value", ["soon", "2031-13-40T00:00:00", 5, {}])
def test_what_is_no_instant(value):
    with pytest.raises(ValueError):  # noqa: PT011 - the class is the promise
        to_epoch(value)


def test_backoff_doubles_within_its_bounds():
    assert [backoff(attempt, random=lambda: 1.0) for attempt in (1, 2, 3, 50)] == [0.2, 0.4, 0.8, 20.0]
    assert backoff(1, random=lambda: 0.0) == 0.1


def test_sometimes_speaks_once_a_minute_for_each_cause():
    tell = Sometimes(60)
    assert [tell("a", 0), tell("a", 59), tell("b", 59), tell("a", 60)] == [True, False, True, True]


def test_a_receiver_that_raises_is_isolated():
    heard = []
    signal = Signal("test", {"x"})

    def bad(**_):
        raise ValueError

    def good(sender, x, **_):
        heard.append((sender, x))

    signal.connect(bad)
    signal.connect(good)
    signal.connect(good, sender="other")

    answers = signal.send(sender="me", x=1)

    assert heard == [("me", 1)]
    assert isinstance(answers[0][1], ValueError)


def test_receivers_are_held_weakly_unless_told():
    signal = Signal("test")

    def make():
        def gone(**_):
            return "gone"

        def kept(**_):
            return "kept"

        signal.connect(gone)
        signal.connect(kept, weak=False)

    make()

    assert [answer for _, answer in signal.send(sender=None)] == ["kept"]


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_celerys_own_logger_names_are_reserved(name):
    with pytest.raises(RuntimeError, match="reserved"):
        get_task_logger(name)


def test_a_trouble_that_many_have_is_told_once_a_minute_with_their_number():
    troubles = Troubles(60)
    told = [troubles.began("500", f"q{number}", 0) for number in range(20)]
    assert told == ["q0", *[None] * 19]

    assert troubles.began("403", "q0", 1) == "q0"
    assert troubles.began("500", "q7", 60) == "q7 (and 19 others)"
    assert troubles.began("500", "q8", 61) is None


def test_the_end_of_a_trouble_is_told_by_the_last_who_had_it():
    troubles = Troubles(60)
    for number in range(3):
        troubles.began("500", f"q{number}", 0)

    assert [troubles.ended(f"q{number}") for number in range(3)] == [None, None, "q2 (and 2 others)"]
    assert troubles.ended("q2") is None


def test_a_trouble_that_comes_and_goes_is_not_told_each_time():
    troubles = Troubles(60)
    told = []
    for second in range(120):
        told += [troubles.began("500", "q", second), troubles.ended("q")]

    assert [each for each in told if each] == ["q"] * 4
