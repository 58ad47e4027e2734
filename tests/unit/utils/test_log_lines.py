"""One record is one line, whatever it says; nothing in a log commands the terminal that shows it."""

from __future__ import annotations

import logging
import sys

import pytest

from pyqs_celery.utils.log import LONGEST_MESSAGE, ColorFormatter, TaskFormatter
from pyqs_celery.utils.text import is_plain, one_line, plain_lines

FORMAT = "[%(asctime)s: %(levelname)s] %(message)s"
FORGED = "[2026-01-01 00:00:00,000: INFO] Task t[i] succeeded"
HARMFUL = [
    "\x1b",
    "\r",
    "\x00",
    "\x07",
    "\x9b",
    "\x85",
    "\u2028",
    "\u202e",
    "\u2066",
    "\u200f",
    "\ufeff",
    "\ud800",
    "\uffff",
]


def record(message, *args, name="celery.worker", exc_info=None):
    return logging.LogRecord(name, logging.ERROR, __file__, 1, message, args, exc_info)


def written(message, *args, formatter=None, **facts):
    return (formatter or ColorFormatter(FORMAT)).format(record(message, *args, **facts))


@pytest.mark.parametrize("character", HARMFUL)
@pytest.mark.parametrize("name", ["celery.worker", "celery.redirected", "shop.tasks"])
def test_nothing_harmful_is_written(character, name):
    text = written("Task %s", f"a{character}b", name=name)

    assert character not in text
    assert character.encode("unicode_escape").decode() in text
    assert not is_plain(character)


@pytest.mark.parametrize("text", ["é", "漢字", "😀", "שלום", "سلام", "👨\u200d👩\u200d👧", "می\u200cخواهم", "a b"])
def test_what_people_write_stays(text):
    assert one_line(text) == plain_lines(text) == text
    assert is_plain(text)
    assert text in written("%s", text)


def test_a_line_of_the_worker_is_one_line():
    assert written("Task %s", f"a\n{FORGED}\tb").count("\n") == 0


@pytest.mark.parametrize("name", ["shop.tasks", "celery.redirected"])
def test_lines_of_an_application_stay_lines_and_begin_no_record(name):
    first, second, third = written("SELECT\n%s\r\n  FROM", FORGED, name=name).split("\n")

    assert first.endswith("SELECT")
    assert second == f"    {FORGED}"
    assert third == "      FROM"


class Quiet(Exception):
    """Shows itself in three lines."""

    def __str__(self) -> str:
        return f"first\n{FORGED}\n\x1b[2Jthird"


def test_a_traceback_keeps_its_lines_and_lets_none_be_forged():
    try:
        try:
            raise ValueError(f"\n{FORGED}")
        except ValueError as exc:
            raise Quiet from exc
    except Quiet:
        text = written("Task failed", exc_info=sys.exc_info())

    lines = text.split("\n")
    assert lines.count("Traceback (most recent call last):") == 2
    assert "The above exception was the direct cause of the following exception:" in lines
    assert any(line.endswith("Quiet: first") for line in lines)
    assert lines[-2:] == [f"    {FORGED}", "    \\x1b[2Jthird"]
    assert not any(line.startswith(FORGED) for line in lines)


def test_a_record_of_a_traceback_alone_is_as_python_writes_it():
    try:
        raise KeyError("k")
    except KeyError:
        plain = logging.Formatter(FORMAT).format(record("x", exc_info=sys.exc_info()))
        ours = written("x", exc_info=sys.exc_info())

    assert ours.split("\n")[1:] == plain.split("\n")[1:]


def test_exc_info_of_nothing_is_borne():
    assert written("x", exc_info=(None, None, None)).split("\n")[0].endswith("x")


def test_a_very_long_message_is_cut_and_counted():
    text = written("%s", "x" * 1_000_000)

    assert len(text) < LONGEST_MESSAGE + 100
    assert text.endswith("(1000000 characters)")


def test_colours_are_ours_only():
    text = ColorFormatter(FORMAT, use_color=True).format(record("a\x1b[31mb"))

    assert text.startswith("\x1b[1;31m")
    assert text.count("\x1b") == 2


def test_a_task_s_lines_are_treated_alike():
    formatter = TaskFormatter("[%(asctime)s: %(task_name)s[%(task_id)s]] %(message)s")

    assert "\n    [2026" in written(f"a\n{FORGED}", name="shop", formatter=formatter)
