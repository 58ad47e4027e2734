"""The server's clock: put forward or made to run, and everything that waits by it follows."""

from __future__ import annotations

import threading
import time

import pytest

from pyqs_celery.local.clock import MovableClock


def test_a_moved_clock_goes_on_from_where_it_was_put():
    true = [100.0]
    clock = MovableClock(lambda: true[0])
    clock.move(50.0, rate=10.0)
    true[0] += 2.0
    assert clock() == 170.0
    clock.move(rate=1.0)
    true[0] += 2.0
    assert clock() == 172.0


@pytest.mark.parametrize("move", [{"advance": -1.0}, {"rate": 0.0}])
def test_a_clock_never_goes_back_nor_stops(move):
    with pytest.raises(ValueError, match="goes forward"):
        MovableClock(time.time).move(**move)


def test_putting_it_forward_ends_leases_delays_and_the_polls_that_wait_for_them(sqs, client_of):
    url = sqs.create("a", VisibilityTimeout=3600)
    client_of().send_message(QueueUrl=url, MessageBody="x", DelaySeconds=900)
    answers = []

    def poll():
        answers.append(client_of(read_timeout=30).receive_message(QueueUrl=url, WaitTimeSeconds=20))

    for seconds in (901, 3601):
        thread = threading.Thread(target=poll)
        thread.start()
        sqs.wait_polled("a")
        sqs.advance(seconds)
        thread.join(10)
        assert answers.pop()["Messages"]
        assert sqs.state("a")["inflight"] == 1


def test_a_poll_of_twenty_seconds_ends_at_once_when_they_are_skipped(sqs, client_of):
    url = sqs.create("a")
    began = time.monotonic()
    thread = threading.Thread(
        target=lambda: client_of(read_timeout=30).receive_message(QueueUrl=url, WaitTimeSeconds=20)
    )
    thread.start()
    sqs.wait_polled("a")
    sqs.advance(21)
    thread.join(15)
    assert not thread.is_alive()
    assert time.monotonic() - began < 15


def test_an_hour_passes_in_seconds_when_the_clock_runs(sqs, client_of):
    url = sqs.create("a")
    client_of().send_message(QueueUrl=url, MessageBody="x", DelaySeconds=900)
    sqs.run_clock(1800)
    began = sqs.now()
    while not client_of(read_timeout=30).receive_message(QueueUrl=url, WaitTimeSeconds=20).get("Messages"):
        assert sqs.now() - began < 7200
    assert sqs.now() - time.time() > 600
