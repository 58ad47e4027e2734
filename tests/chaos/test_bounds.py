"""What a worker may use: memory, descriptors, messages in flight, whatever its queues hold."""

from __future__ import annotations

import json
import os
import threading
import time

import pytest

from tests.support.proc import descriptors, resident_mebibytes, threads
from tests.support.sender import body_with_eta
from tests.support.waiting import until

LONG = bool(os.environ.get("PYQS_CELERY_LONG"))
pytestmark = [pytest.mark.processes, pytest.mark.slow]

SLOTS = 2
BUFFER = 20
UNSETTLED = 100
"""What may be on its way back to a queue, beyond what is held to be run."""
BATCH = 10


class Watch:
    """Looks at a worker and its queues while something goes on, and keeps the most it saw."""

    def __init__(self, sqs, consumer, *queues):
        self._sqs, self._consumer, self._queues = sqs, consumer, queues
        self.start = self.memory = resident_mebibytes(consumer)
        self.in_flight = self.threads = self.descriptors = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc_info):
        self._over.set()
        self._thread.join()

    def _run(self):
        while not self._over.wait(0.1):
            try:
                state = self._sqs.ask("state")
            except TimeoutError:
                continue  # a busy machine: there is another look
            self.in_flight = max(self.in_flight, sum(state[queue]["inflight"] for queue in self._queues))
            self.memory = max(self.memory, resident_mebibytes(self._consumer))
            self.threads = max(self.threads, threads(self._consumer))
            self.descriptors = max(self.descriptors, descriptors(self._consumer))

    @property
    def growth(self):
        return self.memory - self.start


def inject(sqs, queue, bodies, **options):
    for start in range(0, len(bodies), 5000):
        sqs.ask("inject", queue=queue, bodies=bodies[start : start + 5000], **options)


def warm_up(worker, send, queue, number=200):
    """Let a worker run what it will run, so that what it needs anyway is not counted."""
    with send.app.publisher().batch():
        for key in range(number):
            send("note", queue, f"warm-{key}")
    worker.diary.wait("run", number, 60)


@pytest.mark.timeout(900 if LONG else 120)
def test_tasks_that_are_due_later_fill_neither_memory_nor_the_flight(sqs, start_worker, send):
    # given a worker on two queues that has run some tasks
    number = 100_000 if LONG else 5_000
    for name in ("emails", "other"):
        sqs.create(name)
    worker = start_worker("-Q", "emails,other", "-c", str(SLOTS), "-l", "WARNING")
    warm_up(worker, send, "emails")
    warm_up(worker, send, "other")
    consumer = worker.family()[0]

    # when as many messages, due in ten minutes, lie on a queue as a Celery producer leaves them
    at = time.time() + 600
    inject(sqs, "emails", [body_with_eta("note", f"late-{key}", at=at) for key in range(number)])
    began, sent = time.monotonic(), {}
    before = sqs.requests()
    with Watch(sqs, consumer, "emails", "other") as watch:
        key = 0
        while sqs.state("emails")["visible"] or sqs.state("emails")["inflight"]:
            sent[f"other-{key}"] = time.time()
            send("note", "other", f"other-{key}")
            worker.diary.wait("run", 400 + key + 1)
            key += 1
            assert time.monotonic() - began < 800
    took = time.monotonic() - began

    # then all of them wait at SQS, none was kept here, and the other queue's tasks ran meanwhile
    assert sqs.state("emails")["delayed"] == number
    requests = {name: count - before.get(name, 0) for name, count in sqs.requests().items()}
    late = [entry["at"] - sent[entry["key"]] for entry in worker.diary.entries() if entry["key"] in sent]
    late.sort()
    print(
        f"{number} ETAs: {took:.1f} s, {number / took:.0f}/s, memory +{watch.growth:.1f} MiB, in flight {watch.in_flight}, "
        f"another queue's tasks: {len(late)}, median {late[len(late) // 2] * 1000:.0f} ms, worst {late[-1] * 1000:.0f} ms, "
        f"{requests}"
    )
    assert watch.growth < 20
    assert watch.in_flight <= SLOTS + BUFFER + 2 + UNSETTLED + BATCH
    assert late[-1] < 5
    assert worker.stop() == 0


def test_large_messages_fill_no_memory(sqs, start_worker, send):
    # given a worker whose short tasks let it fetch ahead
    sqs.create("emails")
    worker = start_worker("-Q", "emails", "-c", str(SLOTS), "--prefetch-multiplier", "100", "-l", "WARNING")
    warm_up(worker, send, "emails")
    consumer = worker.family()[0]

    # when two hundred messages of a mebibyte lie there at once
    sqs.create("sample")
    send("spend_time_on", "sample", "large", 0.02, "x" * 580_000)
    [body] = sqs.bodies("sample")
    assert len(body) > 1_000_000
    with Watch(sqs, consumer, "emails") as watch:
        for _ in range(20):
            sqs.ask("inject", queue="emails", bodies=[body], copies=10)
        ran = worker.diary.wait("end", 200, 90)
        sqs.wait_empty("emails")

    # then it fetched no more than 32 MiB ahead, and each ran once
    print(f"200 x 1 MiB: memory +{watch.growth:.0f} MiB, in flight {watch.in_flight}")
    assert ran == {"large": 200}
    assert watch.growth < 160
    assert watch.in_flight <= SLOTS + 2 * 32 + 2 * BATCH
    assert worker.stop() == 0


def test_a_child_that_leaks_is_replaced_and_nothing_is_lost_or_doubled(sqs, start_worker, send):
    # given children that may have 150 MiB, and tasks of which each leaks 20
    sqs.create("emails")
    worker = start_worker("-Q", "emails", "-c", "2", "--max-memory-per-child", "150000", "-l", "WARNING")
    with send.app.publisher().batch():
        for key in range(60):
            send("leak", "emails", key, 20)

    # when they have run
    ran = worker.diary.wait("run", 60, 90)
    sqs.wait_empty("emails")

    # then each ran once, no process had much more than its limit, and they were several
    assert ran == dict.fromkeys(range(60), 1)
    entries = list(worker.diary.entries())
    assert max(entry["mebibytes"] for entry in entries if entry["event"] == "run") < 150_000 / 1024 + 25
    assert len({entry["pid"] for entry in entries if entry["event"] == "run"}) >= 8
    assert "exceeding memory limit" in worker.log
    assert worker.stop() == 0


@pytest.mark.timeout(1800 if LONG else 150)
def test_memory_and_descriptors_stay_as_they_are_over_many_tasks(sqs, start_worker, send):
    # given a worker that has run some thousand tasks
    number = 200_000 if LONG else 10_000
    sqs.create("emails")
    worker = start_worker("-Q", "emails", "-c", "2", "-l", "WARNING")
    with send.app.publisher().batch():
        send("nothing", "emails")
    body = until(lambda: sqs.bodies("emails") or sent_body(sqs, send), "a body")[0]
    inject(sqs, "emails", [body], copies=30_000 if LONG else 3_000)
    sqs.wait_empty("emails", 60)
    consumer, *children = worker.family()

    # when many more come
    before = {pid: (resident_mebibytes(pid), descriptors(pid), threads(pid)) for pid in (consumer, *children)}
    inject(sqs, "emails", [body], copies=number)
    began = time.monotonic()
    sqs.wait_empty("emails", 1700)
    took = time.monotonic() - began

    # then no process has grown
    after = {pid: (resident_mebibytes(pid), descriptors(pid), threads(pid)) for pid in (consumer, *children)}
    print(f"{number} tasks in {took:.0f} s: {before} -> {after}")
    for pid in before:
        assert after[pid][0] - before[pid][0] < 5
        assert after[pid][1] <= before[pid][1] + 4
        assert after[pid][2] <= before[pid][2] + 4, "threads for calls are started when there is work for them"
    assert worker.stop() == 0


def sent_body(sqs, send):
    """A body of proj.nothing, taken from a queue that nobody serves."""
    sqs.create("sample")
    send("nothing", "sample")
    return sqs.bodies("sample")


def test_a_receipt_hides_a_message_as_long_as_the_settings_say(sqs, start_worker, send, tmp_path):
    # given a queue whose own timeout is 30 seconds, and workers told to hide messages for 120
    sqs.create("emails", VisibilityTimeout=30)
    options = json.dumps({"broker_transport_options": {"wait_time_seconds": 1, "visibility_timeout": 120}})
    worker = start_worker("-Q", "emails", "-c", "1", "-l", "WARNING", PROJ_CONF=options)
    gate = tmp_path / "open"
    sqs.keep_events()
    send("wait_for", "emails", "long", str(gate))
    worker.diary.wait("start", 1)

    # when the worker dies, and time passes
    [(received, *_)] = sqs.events("receive")
    worker.kill_all()
    second = start_worker("-Q", "emails", "-c", "1", "-l", "WARNING", PROJ_CONF=options)
    sqs.wait_polled("emails")
    gate.touch()
    passed = sqs.now() - received
    sqs.advance(100 - passed)
    sqs.wait_polled("emails")
    assert worker.diary.count("end") == {}
    sqs.advance(25)

    # then the message comes again when 120 seconds have passed, and not before
    worker.diary.wait("end", 1)
    first, again = sqs.events("receive")
    assert 119 <= again[0] - first[0] <= 135
    assert second.stop() == 0


def test_at_the_quota_of_messages_in_flight_work_goes_on(sqs, start_worker, send):
    # given a queue that lets four messages be in flight, and a worker that would take more
    sqs.create("emails")
    sqs.trouble(in_flight_most=4)
    worker = start_worker("-Q", "emails", "-c", "8", "-l", "WARNING")

    with send.app.publisher().batch():
        for key in range(20):
            send("note", "emails", key)

    assert worker.diary.wait("run", 20, 60) == dict.fromkeys(range(20), 1)
    sqs.wait_empty("emails")
    assert worker.stop() == 0


def start_three(sqs, start_worker):
    sqs.create("emails", VisibilityTimeout=5)
    workers = [start_worker("-Q", "emails", "-c", "1", "-l", "WARNING") for _ in range(3)]
    sqs.wait_polled("emails")
    return workers[0].diary


def test_a_short_delay_is_kept_to_the_second_and_holds_no_message(sqs, start_worker, send):
    # given three workers, and leases of five seconds
    diary = start_three(sqs, start_worker)

    # when tasks are sent for later
    due = time.time() + 12
    for key in range(20):
        send("note", "emails", key, countdown=12)
    in_flight = []
    until(lambda: in_flight.append(sqs.state("emails")["inflight"]) or time.time() > due - 3, "it is nearly time")

    # then none was in flight meanwhile, and each runs once and on time
    assert max(in_flight) == 0
    assert diary.wait("run", 20) == dict.fromkeys(range(20), 1)
    late = [entry["at"] - due for entry in diary.entries() if entry["event"] == "run"]
    assert min(late) >= 0
    print(f"delays of 12 s: {max(late):.1f} s late at most")
    assert max(late) < (2 if LONG else 15)


@pytest.mark.parametrize("ahead", [4_000, 50_000])
def test_a_long_delay_goes_back_to_sqs_as_often_as_it_takes(sqs, start_worker, send, ahead):
    # given three workers, leases of five seconds, and tasks for much later
    diary = start_three(sqs, start_worker)
    for key in range(20):
        send("note", "emails", key, countdown=ahead)

    # when SQS's longest delay is over, again and again, as its clock is put forward and the workers' is not
    for hops in range(1, 4):
        assert sqs.state("emails") | {"waiters": 0} == {"visible": 0, "inflight": 0, "delayed": 20, "waiters": 0}
        sqs.advance(901)
        until(lambda hops=hops: sqs.stats()["messages_in"] == 20 * (hops + 1), "all are sent once more")
        until(lambda hops=hops: sqs.stats().get("messages_deleted") == 20 * hops, "and deleted")

    # then all wait still, and none has run
    assert sqs.state("emails")["delayed"] == 20
    assert diary.count("run") == {}
