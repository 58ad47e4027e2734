"""The main job: what waits on queues is run once and deleted, at a price that is counted."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter

import pytest

from tests.support.waiting import until

pytestmark = pytest.mark.processes


def test_a_thousand_waiting_messages_run_once_for_a_quarter_request_each(sqs, start_worker, send):
    # given a thousand messages on a queue
    sqs.create("emails")
    with send.app.publisher().batch():
        for number in range(1000):
            send("note", "emails", number)
    sqs.ask("reset")

    # when a worker with four children drains it
    worker = start_worker("-Q", "emails", "-c", "4")
    sqs.wait_empty("emails", 90)
    requests = sqs.requests()

    # then each ran once, and the worker's requests are counted
    assert worker.diary.count("run") == Counter(range(1000))
    assert sum(requests.values()) <= 250, requests
    assert worker.stop() == 0


def test_a_deep_queue_far_away_is_received_from_several_times_at_once_and_once_it_is_empty_by_one_poll(
    sqs, start_worker, send
):
    # given two thousand messages, and a network on which each request takes a twentieth of a second
    sqs.create("emails")
    with send.app.publisher().batch():
        for number in range(2000):
            send("note", "emails", number)
    worker = start_worker("-Q", "emails", "-c", "10")
    sqs.ask("config", latency_ms=50)
    sqs.ask("reset")
    began = time.monotonic()

    # when it is drained
    worker.diary.wait("run", 2000, 60)
    took = time.monotonic() - began
    sqs.ask("config", latency_ms=0)
    sqs.wait_empty("emails")

    # then that took less time than its receives, one after the other, would have; and hardly one was in vain
    receives = sqs.requests()["ReceiveMessage"]
    assert took < 200 * 0.05, f"{receives} receives in {took:.1f} s"
    assert receives <= 215, receives
    assert worker.diary.count("run") == Counter(range(2000))

    # and of an empty queue one poll is open, and nothing else is asked
    sqs.wait_polled("emails")
    sqs.ask("reset")
    until(lambda: sqs.requests().get("ReceiveMessage", 0) >= 2, "it has polled again, and again")
    assert sqs.state("emails")["waiters"] == 1
    assert set(sqs.requests()) == {"ReceiveMessage"}
    assert worker.stop() == 0


def test_two_workers_hold_no_more_long_tasks_than_they_can_run(sqs, start_worker, send, tmp_path):
    # given two workers of one child that know nothing yet of how long tasks take, and four long ones
    sqs.create("emails")
    gates = [tmp_path / f"gate-{number}" for number in range(4)]
    workers = [start_worker("-Q", "emails", "-c", "1", "-n", f"w{number}") for number in range(2)]
    for worker in workers:
        worker.wait_ready()
    for number, gate in enumerate(gates):
        send("wait_for", "emails", number, str(gate))
    diary = workers[0].diary
    diary.wait("start", 2)
    began = time.monotonic()

    # then what nobody has a process for stays on the queue, and the rest of it is taken when there is one
    until(lambda: time.monotonic() - began > 1.2, "they take longer than a second")
    assert sqs.state("emails") | {"waiters": 0} == {"visible": 2, "inflight": 2, "delayed": 0, "waiters": 0}
    for number in sorted(diary.count("start")):
        gates[number].touch()
    diary.wait("start", 4)
    for gate in gates:
        gate.touch()
    sqs.wait_empty("emails")
    assert diary.count("start") == diary.count("end") == Counter(range(4))
    assert [worker.stop() for worker in workers] == [0, 0]


def test_what_was_fetched_in_the_belief_that_tasks_are_short_goes_back_behind_a_long_one(
    sqs, start_worker, send, tmp_path
):
    # given a worker that has run short tasks only, and now holds some behind a long one
    sqs.create("emails")
    gate = tmp_path / "gate"
    for number in range(20):
        send("note", "emails", number)
    hoarder = start_worker("-Q", "emails", "-c", "1", "-n", "hoarder")
    hoarder.diary.wait("run", 20)
    with send.app.publisher().batch():
        send("wait_for", "emails", "long", str(gate))
        for number in range(20, 25):
            send("note", "emails", number)
    hoarder.diary.wait("start", 1)

    # when there is another
    other = start_worker("-Q", "emails", "-c", "1", "-n", "other")

    # then that runs them while the long one runs
    hoarder.diary.wait("run", 25)
    assert not hoarder.diary.count("end")
    gate.touch()
    sqs.wait_empty("emails")
    assert hoarder.diary.count("run") == Counter(range(25))
    assert [hoarder.stop(), other.stop()] == [0, 0]


def test_short_tasks_are_received_by_eight_and_more(sqs, start_worker, send):
    sqs.create("emails")
    with send.app.publisher().batch():
        for number in range(1500):
            send("doze", "emails", number, 0.005)
    sqs.keep_events()

    worker = start_worker("-Q", "emails", "-c", "4")
    sqs.wait_empty("emails", 60)

    received = len(sqs.events("receive"))
    receives = sqs.requests()["ReceiveMessage"]
    assert received == 1500
    assert received / receives >= 8, f"{receives} receives"
    assert worker.stop() == 0
    assert worker.diary.count("run") == Counter(range(1500))


def test_a_pattern_takes_queues_that_come_and_drops_those_that_go(sqs, start_worker, send):
    # given a worker on a pattern of which one queue exists, and which looks again at once when a queue vanishes
    sqs.create("email-first")
    sqs.create("other")
    send("note", "other", "not mine")
    worker = start_worker("-Q", "email.*", "-c", "2", "worker_queue_refresh_seconds=1")
    worker.wait_ready()
    sqs.wait_polled("email-first")

    # when another queue appears
    send("note", "email.second", "second")
    # then it is served
    worker.diary.wait("run", 1)
    sqs.wait_empty("email-second")

    # and when one is deleted, it is dropped while the others go on
    sqs.delete("email-second")
    worker.wait_logged("email-second is gone")
    send("note", "email.first", "first")
    worker.diary.wait("run", 2)

    assert worker.diary.count("run") == Counter(["second", "first"])
    assert sqs.left("other") == 1
    assert worker.stop() == 0


def test_a_pattern_that_matches_nothing_waits_and_says_so(sqs, start_worker, send):
    worker = start_worker("-Q", "email.*", "-c", "1", "worker_queue_refresh_seconds=1")
    worker.wait_logged("No queue matches 'email.*' yet")

    send("note", "email.late", 1)

    worker.diary.wait("run", 1)
    assert worker.stop() == 0


def test_a_missing_queue_is_named_and_served_once_it_exists(sqs, start_worker, send):
    worker = start_worker("-Q", "absent", "-c", "1", "worker_queue_refresh_seconds=1")
    worker.wait_logged("Queue 'absent' does not exist; create it, or start with --create-queues")

    sqs.create("absent")
    send("note", "absent", 1)

    worker.diary.wait("run", 1)
    assert worker.stop() == 0


def test_create_queues_creates_named_queues(sqs, start_worker):
    worker = start_worker("-Q", "made", "-c", "1", "--create-queues")
    worker.wait_ready()
    sqs.wait_polled("made")

    assert worker.stop() == 0


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_other_pools_do_the_same_job(sqs, start_worker, send, pool):
    sqs.create("emails")
    for number in range(30):
        send("note", "emails", number)
    send("fail", "emails", "bad")

    worker = start_worker("-Q", "emails", "-c", "3", "-P", pool)

    worker.diary.wait("run", 31)
    worker.wait_logged("raised unexpected")
    assert worker.diary.count("run") == Counter([*range(30), "bad"])
    assert worker.stop() == 0
    assert sqs.state("emails")["visible"] + sqs.state("emails")["inflight"] == 1  # what failed comes back later


def test_signals_are_heard_where_celery_sends_them(sqs, start_worker, send):
    sqs.create("emails")
    worker = start_worker("-Q", "emails", "-c", "2")
    worker.wait_ready()
    worker.diary.wait("signal", 4)

    assert worker.stop() == 0

    heard = worker.diary.count("signal")
    assert heard == Counter(
        worker_init=1, worker_ready=1, worker_process_init=2, worker_shutting_down=1, worker_shutdown=1
    )
    where = {entry["key"]: entry["pid"] for entry in worker.diary.entries()}
    assert where["worker_init"] == worker.process.pid
    assert where["worker_ready"] == where["worker_shutdown"] != where["worker_process_init"]


def test_children_are_replaced_after_so_many_tasks(sqs, start_worker, send):
    sqs.create("emails")
    for number in range(10):
        send("note", "emails", number)

    worker = start_worker("-Q", "emails", "-c", "1", "--max-tasks-per-child", "3")

    worker.diary.wait("run", 10)
    pids = Counter(entry["pid"] for entry in worker.diary.entries() if entry["event"] == "run")
    assert sorted(pids.values(), reverse=True)[:3] == [3, 3, 3]
    assert worker.stop() == 0
    assert worker.diary.count("run") == Counter(range(10))


def test_a_child_that_has_grown_is_replaced(sqs, start_worker, send):
    sqs.create("emails")
    send("spend_memory", "emails", 1, 150)
    worker = start_worker("-Q", "emails", "-c", "1", "--max-memory-per-child", "120000")
    worker.diary.wait("run", 1)

    send("note", "emails", 2)

    worker.diary.wait("run", 2)
    pids = [entry["pid"] for entry in worker.diary.entries() if entry["event"] == "run"]
    assert pids[0] != pids[1]
    assert "exceeding memory limit" in worker.log
    assert worker.stop() == 0


def test_hup_restarts_the_worker_in_its_own_process(sqs, start_worker, send):
    sqs.create("emails")
    worker = start_worker("-Q", "emails", "-c", "1")
    worker.wait_ready()

    worker.send_signal(signal.SIGHUP)
    worker.wait_logged("Restarting celery worker")
    send("note", "emails", "after")

    worker.diary.wait("run", 1, 60)
    assert worker.process.poll() is None
    assert worker.stop() == 0


@pytest.mark.parametrize(
    "order", [(signal.SIGHUP, signal.SIGTERM), (signal.SIGTERM, signal.SIGHUP)], ids=["hup", "term"]
)
def test_a_worker_that_is_to_end_does_not_restart_whatever_else_it_was_told(sqs, start_worker, send, tmp_path, order):
    """A deploy that came a moment after a SIGHUP left the old application running for good."""
    # given a worker that is kept from ending by a task
    os.mkfifo(tmp_path / "gate")
    sqs.create("emails")
    worker = start_worker("-Q", "emails", "-c", "1", "worker_soft_shutdown_timeout=20")
    send("pass_gate", "emails", "long", str(tmp_path / "gate"))
    worker.diary.wait("start", 1)

    # when it gets both signals, one after the other
    worker.send_signal(order[0])
    worker.wait_logged("Warm shutdown")
    worker.send_signal(order[1])
    with (tmp_path / "gate").open("w"):
        pass

    # then it ends
    assert worker.wait() == 0
