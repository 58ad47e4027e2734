"""Nothing is lost when a process is killed in the middle of its work."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.waiting import until

pytestmark = pytest.mark.processes
TASKS = 500
LEASE_SECONDS = 10
ALLOWED_SECONDS = LEASE_SECONDS + 10


@pytest.fixture
def busy_worker(sqs, start_worker, send) -> Callable[[], Any]:
    """A worker with a hundred of its five hundred tasks done. Leases are short, so that a test need not wait a minute."""
    sqs.create("emails")
    with send.app.publisher().batch():
        for number in range(TASKS):
            send("grind", "emails", number, 20_000)

    def start() -> Any:
        worker = start_worker("-Q", "emails", "-c", "4", f"worker_lease_seconds={LEASE_SECONDS}")
        worker.diary.wait("end", 100)
        return worker

    return start


def all_have_run(worker) -> bool:
    return set(worker.diary.count("end")) == set(range(TASKS))


def test_a_killed_child_costs_its_one_task_a_second_run(sqs, busy_worker):
    # given a worker in the middle of its work
    worker = busy_worker()

    # when three children are killed
    for victim in worker.family()[1:4]:
        os.kill(victim, signal.SIGKILL)

    # then every task ends in success, and only what was running runs again
    until(lambda: all_have_run(worker), "every task has run", ALLOWED_SECONDS)
    sqs.wait_empty("emails")
    started = worker.diary.count("start")
    assert sum(started.values()) <= TASKS + 3
    assert "signal 9 (SIGKILL)" in worker.log
    assert "WorkerLostError" in worker.log
    assert worker.stop() == 0


def test_a_killed_consumer_is_replaced_with_its_children(sqs, busy_worker):
    worker = busy_worker()
    consumer = worker.family()[0]

    os.kill(consumer, signal.SIGKILL)

    until(lambda: all_have_run(worker), "every task has run", ALLOWED_SECONDS)
    sqs.wait_empty("emails", ALLOWED_SECONDS)
    worker.wait_family(5)
    assert "a new one is started" in worker.log
    assert worker.stop() == 0


def test_when_the_manager_is_killed_all_leave_and_a_new_worker_finishes(sqs, busy_worker):
    worker = busy_worker()

    os.kill(worker.process.pid, signal.SIGKILL)
    worker.wait()
    worker.check_nobody_left(ALLOWED_SECONDS)
    second = busy_worker()

    until(lambda: all_have_run(second), "every task has run", ALLOWED_SECONDS)
    sqs.wait_empty("emails", ALLOWED_SECONDS)
    assert second.stop() == 0


def test_a_task_that_kills_its_process_ends_in_the_dead_letter_queue(sqs, start_worker, send):
    # given a queue whose redrive policy allows two receipts
    sqs.create_with_dead_letters("emails", 2, VisibilityTimeout=1)
    send("kill_own_process", "emails", "bad")
    send("note", "emails", "good")

    worker = start_worker("-Q", "emails", "-c", "2")

    until(lambda: sqs.left("emails-dlq") == 1, "the killer is in the dead-letter queue", 30)
    assert worker.diary.count("run")["bad"] == 2
    worker.diary.wait("run", 3)
    sqs.wait_empty("emails")
    assert worker.stop() == 0


def test_a_task_that_lies_on_its_childs_channel_costs_its_child_and_nobody_else(sqs, start_worker, send):
    sqs.create_with_dead_letters("emails", 1, VisibilityTimeout=1)
    send("lie_to_the_consumer", "emails", "liar")
    worker = start_worker("-Q", "emails", "-c", "2")
    worker.diary.wait("run", 1)
    consumer = worker.family()[0]

    worker.wait_logged("said what is no report")
    send("note", "emails", "honest")

    worker.diary.wait("run", 2)
    until(lambda: sqs.left("emails-dlq") == 1, "the liar is in the dead-letter queue", 30)
    assert worker.family()[0] == consumer
    assert worker.stop() == 0


def test_a_queue_that_is_said_to_be_gone_is_not_asked_without_pause(sqs, start_worker):
    """SQS may say for a while that a queue is gone which GetQueueUrl still finds."""
    sqs.create("emails")
    sqs.faults({"kind": "missing", "action": "ReceiveMessage"})
    worker = start_worker("-Q", "emails", "-c", "1")
    until(lambda: sqs.requests().get("ReceiveMessage", 0) >= 5, "five receives were refused", 30)

    first = next(entry for entry in worker.log.splitlines() if "there is no such queue" in entry)

    assert first
    assert sqs.requests()["ReceiveMessage"] < 20
    sqs.faults()
    sqs.wait_polled("emails", 60)
    assert worker.stop() == 0


def test_stopped_and_continued_beyond_its_lease_a_worker_says_so_and_goes_on(sqs, start_worker, send, tmp_path):
    # given a task that waits at a gate, under a lease of five seconds
    sqs.create("emails", VisibilityTimeout=5)
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    send("pass_gate", "emails", "held", str(gate))
    worker = start_worker("-Q", "emails", "-c", "1")
    worker.diary.wait("start", 1)

    # when the consumer is frozen until SQS shows the message again, and then goes on
    consumer = worker.family()[0]
    os.kill(consumer, signal.SIGSTOP)
    until(lambda: sqs.state("emails")["visible"] == 1, "the lease has ended", 15)
    os.kill(consumer, signal.SIGCONT)
    worker.wait_logged("its lease was lost")
    gate.write_text("")

    # then the message is deleted once its task has ended, by the newest receipt, and nothing runs beside itself
    worker.diary.wait("end", 1)
    send("note", "emails", "next")
    until(lambda: worker.diary.count("run")["next"] == 1, "the worker goes on", 30)
    gate_needed_again = worker.diary.count("start")["held"] > 1
    if gate_needed_again:
        gate.write_text("")
    sqs.wait_empty("emails", 30)
    assert worker.stop() == 0


@pytest.mark.parametrize(("fault", "runs"), [("timeout", 2), ("reset_after", 1)])
def test_killed_while_a_deletion_is_under_way_the_consumer_costs_a_second_run_at_most(
    sqs, start_worker, send, fault, runs
):
    """A deletion that is never answered was not done; one whose answer is lost was."""
    # given a task that has run, and whose deletion SQS does not answer
    sqs.create("emails", VisibilityTimeout=30)
    sqs.faults({"kind": fault, "action": "DeleteMessageBatch", "queue": "emails"})
    send("note", "emails", "done")
    worker = start_worker("-Q", "emails", "-c", "1", "worker_lease_seconds=3")
    worker.diary.wait("run", 1)
    until(lambda: sqs.stats().get(f"fault_{fault}", 0) >= 1, "the deletion is under way")

    # when the consumer is killed
    os.kill(worker.family()[0], signal.SIGKILL)
    sqs.faults()

    # then the message is deleted in the end, after a second run if need be
    worker.wait_logged("a new one is started")
    sqs.wait_empty("emails")
    send("note", "emails", "next")
    until(lambda: worker.diary.count("run")["next"] == 1, "the worker goes on")
    assert worker.diary.count("run")["done"] == runs
    assert worker.stop() == 0


def test_what_a_poll_brought_to_a_frozen_consumer_is_not_run_once_others_have_it(sqs, start_worker, send):
    """The answer waits in its socket, and looks fresh when it is read."""
    # given a consumer that is frozen with an open poll, and a message that SQS gives to that poll
    sqs.create("emails", VisibilityTimeout=30)
    conf = json.dumps({"broker_transport_options": {"wait_time_seconds": 2}})
    options = ("-Q", "emails", "-c", "1", "worker_lease_seconds=4")
    worker = start_worker(*options, "-n", "frozen", PROJ_CONF=conf)
    worker.wait_ready()
    consumer = worker.family()[0]

    def is_frozen_with_a_poll() -> bool:
        sqs.wait_polled("emails")
        os.kill(consumer, signal.SIGSTOP)
        if sqs.is_polled("emails"):
            return True
        os.kill(consumer, signal.SIGCONT)
        return False

    until(is_frozen_with_a_poll, "the consumer is frozen with an open poll")
    send("note", "emails", "once")
    assert sqs.state("emails")["inflight"] == 1

    # when its lease has ended, another worker has run it, and the first goes on
    other = start_worker(*options, "-n", "other")
    worker.diary.wait("run", 1)
    os.kill(consumer, signal.SIGCONT)

    # then it says so, and does not run it
    worker.wait_logged("its lease was lost")
    sqs.wait_polled("emails")
    sqs.wait_empty("emails")
    assert worker.diary.count("run") == {"once": 1}
    assert [worker.stop(), other.stop()] == [0, 0]
