"""Queues beside each other in a real worker: a slow one beside a fast one, and a high one before a low one."""

from __future__ import annotations

import json
import os

import pytest

from tests.support.waiting import until

pytestmark = pytest.mark.processes


def order(worker, event):
    return [entry["key"] for entry in worker.diary.entries() if entry["event"] == event]


def test_a_queue_with_a_limit_leaves_the_other_slots_to_a_fast_one(sqs, start_worker, send, tmp_path):
    # given a worker of three slots, of which tasks that do not end may have two
    for name in ("slow", "fast"):
        sqs.create(name)
    gate = tmp_path / "gate"
    for number in range(10):
        send("wait_for", "slow", f"slow-{number}", str(gate))
    worker = start_worker("-Q", "slow=2,fast", "-c", "3", "-l", "INFO")
    worker.diary.wait("start", 2)
    worker.wait_logged("at most 2 at once")

    # when tasks come to the fast queue
    with send.app.publisher().batch():
        for number in range(100):
            send("note", "fast", number)

    # then they run while the slow ones do, of which no more are held than run
    worker.diary.wait("run", 100)
    assert len(order(worker, "start")) == 2
    assert sqs.state("slow")["inflight"] == 2
    gate.touch()
    sqs.wait_empty("slow")
    sqs.wait_empty("fast")
    assert worker.stop() == 0


def test_a_fast_queue_waits_for_no_more_than_what_runs_of_a_slow_one_without_any_limit(sqs, start_worker, send):
    # given one slot, and a queue full of tasks of a fifth of a second
    for name in ("slow", "fast"):
        sqs.create(name)
    with send.app.publisher().batch():
        for number in range(200):
            send("doze", "slow", f"slow-{number}", 0.2)
    worker = start_worker("-Q", "slow,fast", "-c", "1", "-l", "WARNING")
    worker.diary.wait("run", 8)

    # when single tasks come to the other queue
    for number in range(5):
        before = len(order(worker, "run"))
        send("note", "fast", f"fast-{number}")
        until(lambda number=number: f"fast-{number}" in order(worker, "run"), "it has run")

        # then each runs after what runs, and at most one more that was handed out meanwhile
        assert order(worker, "run").index(f"fast-{number}") - before <= 2
    assert worker.stop() == 0


def test_in_strict_order_nothing_of_the_low_queue_runs_before_the_high_one_is_empty(sqs, start_worker, send, tmp_path):
    # given a backlog on two queues
    for name in ("high", "low"):
        sqs.create(name)
    with send.app.publisher().batch():
        for number in range(300):
            send("note", "low", f"low-{number}")
            send("note", "high", f"high-{number}")

    # when a worker runs them in strict order
    worker = start_worker("-Q", "low:1,high:10", "--queue-order", "strict", "-c", "2", "-l", "WARNING")
    ran = worker.diary.wait("run", 600, 60)

    # then all of the high queue ran before anything of the low one, but for what the last polls of the high one left to tell
    assert set(ran.values()) == {1}
    first_low = next(index for index, key in enumerate(order(worker, "run")) if key.startswith("low"))
    assert first_low >= 295
    sqs.wait_empty("low")
    assert worker.stop() == 0


def test_a_worker_full_of_low_messages_runs_a_high_one_after_what_runs(sqs, start_worker, send, tmp_path):
    # given a worker of one slot that holds low messages of short tasks beyond the one that runs
    for name in ("high", "low"):
        sqs.create(name)
    options = {"worker_queue_order": "strict", "broker_transport_options": {"wait_time_seconds": 1}}
    with send.app.publisher().batch():
        for number in range(30):
            send("note", "low", f"first-{number}")
    worker = start_worker("-Q", "high:10,low:1", "-c", "1", "-l", "WARNING", PROJ_CONF=json.dumps(options))
    worker.diary.wait("run", 30)
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with send.app.publisher().batch():
        send("pass_gate", "low", "gate", str(gate))
        for number in range(40):
            send("note", "low", f"low-{number}")
    worker.diary.wait("start", 1)
    until(lambda: sqs.state("low")["inflight"] >= 5, "the worker holds low messages")

    # when high ones come while a low one runs
    for number in range(3):
        send("note", "high", f"high-{number}")
    sqs.wait_polled("high")
    with gate.open("w"):
        pass

    # then they run next
    worker.diary.wait("run", 73)
    after = order(worker, "run")[30:]
    late = max(after.index(f"high-{number}") for number in range(3))
    assert late <= 6, after[:12]
    sqs.wait_empty("low")
    assert worker.stop() == 0


def test_queues_take_turns_where_only_a_few_polls_may_be_open(sqs, start_worker, send):
    # given a worker on twelve queues that may have three polls open
    names = [f"turn-{number}" for number in range(12)]
    for name in names:
        sqs.create(name)
    worker = start_worker("-Q", ",".join(names), "-c", "2", "-l", "WARNING", "worker_open_polls=3")
    until(lambda: sum(sqs.state(name)["waiters"] for name in names) == 3, "three polls are open")

    # when a task comes to each
    for name in names:
        send("note", name, name)

    # then all run, and there never were more polls
    worker.diary.wait("run", 12)
    for _ in range(20):
        assert sum(row["waiters"] for row in sqs.ask("state").values()) <= 3
    assert worker.diary.count("run") == dict.fromkeys(names, 1)
    assert worker.stop() == 0


def test_in_strict_order_a_low_task_that_runs_long_is_all_a_high_one_waits_for(sqs, start_worker, send, tmp_path):
    # given one slot with a long task of the low queue, and more of them
    for name in ("high", "low"):
        sqs.create(name)
    gates = [tmp_path / f"gate-{number}" for number in range(3)]
    for number, gate in enumerate(gates):
        os.mkfifo(gate)
        send("pass_gate", "low", number, str(gate))
    worker = start_worker("-Q", "high:10,low:1", "--queue-order", "strict", "-c", "1", "-l", "WARNING")
    worker.diary.wait("start", 1)
    running = order(worker, "start")[0]

    # when a high one comes, and the long one ends
    send("note", "high", "urgent")
    with gates[running].open("w"):
        pass

    # then the high one runs before any other low one begins
    worker.diary.wait("run", 1)
    begun = [entry["key"] for entry in worker.diary.entries() if entry["event"] in ("start", "run")]
    assert begun[:2] == [running, "urgent"]
    for number in {0, 1, 2} - {running}:
        with gates[number].open("w"):
            pass
    sqs.wait_empty("low")
    assert worker.stop() == 0
