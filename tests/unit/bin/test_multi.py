"""``multi``: which nodes a command line means, and which signal."""

from __future__ import annotations

import signal

import pytest

from pyqs_celery.bin.errors import UsageError
from pyqs_celery.bin.multi import _signal_named, parse

HOST = "foo.example.com"


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["2"], ["celery1@foo.example.com", "celery2@foo.example.com"]),
        (["w1", "w2@elsewhere"], ["w1@foo.example.com", "w2@elsewhere"]),
        (["w1", "-n", "%n"], ["w1@foo"]),
        (["w1", "--suffix=@%d"], ["w1@example.com"]),
        (["w1@%h"], ["w1@foo.example.com"]),
    ],
)
def test_nodes_are_named_by_themselves_or_by_their_number(words, names):
    assert [node.name for node in parse(words, HOST)] == names


def test_in_paths_the_letters_mean_what_they_mean_to_celery_multi():
    [node] = parse(["george", "--pidfile=/run/%n-%d.pid", "--logfile=/log/%h%I.log"], HOST)

    assert str(node.pidfile) == "/run/george-foo.example.com.pid"
    assert "--logfile=/log/george@foo.example.com.log" in node.command()


def test_a_letter_that_stands_for_nothing_is_a_usage_error():
    with pytest.raises(UsageError, match="%x"):
        parse(["w%x"], HOST)
    [node] = parse(["w1", "--pidfile=%y.pid"], HOST)
    with pytest.raises(UsageError, match="--pidfile: %y"):
        node.command()


@pytest.mark.parametrize(
    ("word", "signum"),
    [("-INT", signal.SIGINT), ("-SIGTERM", signal.SIGTERM), ("-9", signal.SIGKILL), ("-c", None), ("--hup", None)],
)
def test_a_signal_is_named_or_numbered(word, signum):
    assert _signal_named(word) == signum


def test_a_number_of_no_signal_is_a_usage_error():
    with pytest.raises(UsageError, match="no signal 999"):
        _signal_named("-999")
