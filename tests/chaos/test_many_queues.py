"""One worker on many queues: each has its open poll, none waits for another, and they come and go."""

from __future__ import annotations

import json
import os
import random
import re
import threading
import time

import pytest

from tests.support.proc import descriptors, proportional_mebibytes, threads
from tests.support.waiting import until

pytestmark = [pytest.mark.processes, pytest.mark.slow]

LONG = bool(os.environ.get("PYQS_CELERY_LONG"))
THREADS_FOR_CALLS = 6
"""The worker starts threads for its calls, up to so many, when there is work for them."""
LONG_POLLS = json.dumps({"broker_transport_options": {"wait_time_seconds": 5}})


def open_polls(sqs, prefix=""):
    return [name for name, row in sqs.ask("state").items() if row["waiters"] and name.startswith(prefix)]


def received_from(sqs):
    """The queues that somebody has ever asked for messages."""
    asked = (key.split(" ") for key in sqs.ask("counters")["by_queue"])
    return {name for action, name in asked if action == "ReceiveMessage"}


def polls_of_queues(sqs, names):
    state = sqs.ask("state")
    return {name: state[name]["waiters"] for name in names}


def lateness(worker, sent):
    """Seconds from send to start, by key."""
    return {
        entry["key"]: entry["at"] - sent[entry["key"]] for entry in worker.diary.entries() if entry["event"] == "run"
    }


def test_a_hundred_idle_queues_have_a_poll_each_and_answer_at_once(sqs, start_worker, send):
    # given a worker on a hundred queues, all empty
    names = [f"many-{number}" for number in range(100)]
    for name in names:
        sqs.create(name)
    worker = start_worker("-Q", ",".join(names), "-c", "2", "-l", "WARNING", PROJ_CONF=LONG_POLLS)
    until(lambda: polls_of_queues(sqs, names) == dict.fromkeys(names, 1), "each queue has one open poll", 60)

    # when tasks are sent to them at random
    sent, dice = {}, random.Random(5)
    pause = threading.Event()
    for key in range(400 if LONG else 120):
        sent[key] = time.time()
        send("note", dice.choice(names), key)
        pause.wait(0.02)
    ran = worker.diary.wait("run", len(sent))

    # then each started soon (a quiet machine: half within a tenth of a second, 99 in 100 within half a second)
    assert ran == dict.fromkeys(sent, 1)
    late = sorted(lateness(worker, sent).values())
    median, nearly_all = late[len(late) // 2], late[int(len(late) * 0.99) - 1]
    print(f"100 idle queues: median {median * 1000:.0f} ms, p99 {nearly_all * 1000:.0f} ms")
    assert median < (0.1 if LONG else 2.0)
    assert nearly_all < (0.5 if LONG else 10.0)
    until(lambda: polls_of_queues(sqs, names) == dict.fromkeys(names, 1), "each queue has one open poll again", 60)
    assert "pool is full" not in worker.log
    assert worker.stop() == 0


def test_200_queues_have_one_poll_each_at_300_requests_an_hour_and_little_memory(sqs, start_worker):
    # given a worker on one queue, and one on two hundred, both idle, with the default of how long a poll waits
    names = [f"wide-{number}" for number in range(200)]
    for name in ("single", *names):
        sqs.create(name)
    waits = json.dumps({"broker_transport_options": {}})
    single = start_worker("-Q", "single", "-c", "2", "-l", "WARNING", "-n", "single", PROJ_CONF=waits)
    wide = start_worker("-Q", ",".join(names), "-c", "2", "-l", "WARNING", "-n", "wide", PROJ_CONF=waits)
    sqs.wait_polled("single")
    until(lambda: polls_of_queues(sqs, names) == dict.fromkeys(names, 1), "each queue has one open poll", 60)

    # then a queue costs a thread and a few pages
    consumers = single.family()[0], wide.family()[0]
    one, many = (proportional_mebibytes(consumer) for consumer in consumers)
    print(f"memory of a queue: {(many - one) / 199 * 1024:.0f} KiB")
    assert (many - one) / 199 * 1024 <= 100
    assert threads(consumers[1]) <= len(names) + THREADS_FOR_CALLS

    # and in a minute of SQS's clock each is asked five times, with one poll open all the time
    sqs.ask("reset")
    for _ in range(5):
        before = sqs.requests().get("ReceiveMessage", 0)
        sqs.advance(12)
        until(lambda before=before: sqs.requests().get("ReceiveMessage", 0) >= before + 201, "all are polled again", 60)
        assert polls_of_queues(sqs, names) == dict.fromkeys(names, 1)
    assert sqs.requests() == {"ReceiveMessage": 5 * 201}
    assert [single.stop(), wide.stop()] == [0, 0]


def test_a_flooded_queue_keeps_no_other_waiting(sqs, start_worker, send):
    # given two slots, and a queue full of tasks so long that each is a turn of its own (credit.TURN_SECONDS)
    for name in ("flood", "quiet"):
        sqs.create(name)
    with send.app.publisher().batch():
        for number in range(2000):
            send("grind", "flood", f"flood-{number}", 400_000)
    worker = start_worker("-Q", "flood,quiet", "-c", "2", "-l", "WARNING")
    worker.diary.wait("end", 20, 60)

    # when single tasks come to the other queue
    sent = {}
    for number in range(10):
        send("note", "quiet", f"quiet-{number}")
        sent[f"quiet-{number}"] = time.time()
        worker.diary.wait("run", number + 1)

    # then each began within two tasks of the flood: what ran in the two slots, and what is being handed out
    entries = list(worker.diary.entries())
    for key, at in sent.items():
        started = next(entry["at"] for entry in entries if entry["key"] == key)
        before = [entry["key"] for entry in entries if entry["event"] == "start" and at < entry["at"] < started]
        assert len(before) <= 4, (key, before)
    assert worker.stop() == 0


def test_patterns_follow_the_queues_that_come_and_go(sqs, start_worker, send):
    # given more queues than a page of ListQueues holds, of which some are meant
    others = 2500 if LONG else 1100
    for number in range(others):
        sqs.create(f"other-{number}")
    meant = [f"email-{number}" for number in range(300 if LONG else 60)]
    for name in (
        *meant,
        "email-secret",
        "email-0-dlq",
        "email-dead-letter-queue",
        "celery-pidbox",
        "email-x-reply-celery-pidbox",
    ):
        sqs.create(name)
    sqs.create_with_dead_letters("email-redriven", 3)

    # when a worker serves a pattern
    worker = start_worker(
        *("-Q", "email.*,!email.secret", "-c", "2", "-l", "INFO", "worker_queue_refresh_seconds=2"),
    )
    served = {*meant, "email-redriven"}
    until(lambda: received_from(sqs) >= served, "all that match are polled", 120)

    # then a new one is found
    consumer = worker.family()[0]
    before = threads(consumer), descriptors(consumer)
    sqs.create("email-new")
    until(lambda: "email-new" in received_from(sqs), "the new queue is polled")
    send("note", "email.new", "new")
    worker.diary.wait("run", 1)
    sqs.wait_empty("email-new")

    # and one that is deleted is dropped, with a few lines at most
    sqs.delete("email-new")
    worker.wait_logged("Queue email-new is gone")
    until(lambda: threads(consumer) <= before[0] + THREADS_FOR_CALLS, "its thread has ended")
    assert descriptors(consumer) <= before[1] + THREADS_FOR_CALLS + 2
    about = [line for line in worker.log.splitlines() if "email-new" in line and "Task" not in line]
    assert len(about) <= 4, about
    assert received_from(sqs) == served | {"email-new"}, "nothing else is polled"
    created = sqs.requests().get("CreateQueue", 0)
    assert created == others + len(meant) + 5 + 2 + 1, "a pattern creates nothing"
    assert worker.stop() == 0


def test_queues_that_come_and_go_leave_no_threads_and_no_descriptors(sqs, start_worker, send):
    # given a worker on a pattern
    sqs.create("tenant-0")
    worker = start_worker("-Q", "tenant.*", "-c", "1", "-l", "INFO", "worker_queue_refresh_seconds=0.2")
    sqs.wait_polled("tenant-0")
    consumer = worker.family()[0]

    def come_and_go(number):
        name = f"tenant-{number}"
        sqs.create(name)
        sqs.wait_polled(name)
        send("note", name, number)
        worker.diary.wait("run", number)
        sqs.wait_empty(name)
        sqs.delete(name)
        worker.wait_logged(f"Queue {name} is gone")

    for number in range(1, 6):
        come_and_go(number)
    before = threads(consumer), descriptors(consumer)

    # when fifty queues come, are used, and go
    for number in range(6, 56):
        come_and_go(number)

    # then the worker is as it was
    until(lambda: threads(consumer) <= before[0] + THREADS_FOR_CALLS, f"threads are again {before[0]}", 60)
    assert descriptors(consumer) <= before[1] + THREADS_FOR_CALLS
    assert sqs.is_polled("tenant-0")
    assert worker.stop() == 0


def test_twenty_queues_in_the_same_trouble_are_one_line_a_minute(sqs, start_worker):
    # given a worker on twenty queues
    names = [f"many-{number}" for number in range(20)]
    for name in names:
        sqs.create(name)
    worker = start_worker("-Q", ",".join(names), "-c", "2", "-l", "INFO")
    until(lambda: received_from(sqs) >= set(names), "all are polled", 60)
    quiet = len(worker.log.splitlines())

    # when SQS refuses every receive for a while, and then does no more
    sqs.faults({"kind": "500", "action": "ReceiveMessage"})
    until(lambda: sqs.stats().get("fault_500", 0) >= 60, "each was refused a few times", 60)
    refused = worker.log.splitlines()[quiet:]
    sqs.no_faults()

    # then that is one line for the trouble, and one that it is over for all
    worker.wait_logged("receiving again", 60)
    lines = [line for line in worker.log.splitlines()[quiet:] if "Queue" in line]
    assert len([line for line in refused if "ReceiveMessage" in line]) == 1, refused
    assert len(lines) == 2, lines
    assert re.search(r"\(and 19 others\): receiving again", lines[1])
    assert worker.stop() == 0


def test_queues_that_are_missing_are_one_line_and_are_found_when_they_are_made(sqs, start_worker, send):
    # given a worker on twenty queues of which one exists
    names = [f"many-{number}" for number in range(20)]
    sqs.create(names[0])
    worker = start_worker("-Q", ",".join(names), "-c", "1", "-l", "INFO", "worker_queue_refresh_seconds=0.5")
    sqs.wait_polled(names[0])

    # then one line says so
    worker.wait_logged("Queue 'many-1', 'many-2', 'many-3' and 16 others does not exist; create it")
    assert worker.log.count("does not exist") == 1

    # when the others are made, they are served
    for name in names[1:]:
        sqs.create(name)
    until(lambda: received_from(sqs) >= set(names), "all are polled", 60)
    send("note", names[19], "there")
    worker.diary.wait("run", 1)
    assert worker.stop() == 0
