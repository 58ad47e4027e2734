"""A task whose process dies for good has its errbacks called by another child: once, and before its message is settled."""

from __future__ import annotations

import os
import signal
from itertools import pairwise

import pytest

from tests.support.waiting import until

pytestmark = pytest.mark.processes


@pytest.fixture
def errback(send):
    """``link_error`` for a task of the worker's application."""

    def made(name="lament", **keywords):
        return send.app.signature(f"proj.{name}", kwargs=keywords)

    return made


@pytest.fixture
def gate(tmp_path):
    """A named pipe: who opens it for reading waits until it is opened for writing."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


def kill_whoever_runs(worker, key):
    worker.diary.wait("start", 1)
    [pid] = [entry["pid"] for entry in worker.diary.entries() if entry["event"] == "start" and entry["key"] == key]
    os.kill(pid, signal.SIGKILL)


def laments(worker):
    return [entry for entry in worker.diary.entries() if entry["event"] == "lament"]


def test_a_child_that_is_killed_at_the_last_delivery(sqs, start_worker, send, errback, gate):
    # given a task that runs, on a queue whose redrive policy allows one receipt
    sqs.create_with_dead_letters("emails", 1, VisibilityTimeout=1)
    sent = send("pass_gate", "emails", "doomed", str(gate), link_error=errback())
    worker = start_worker("-Q", "emails", "-c", "1")

    # when its process is killed
    kill_whoever_runs(worker, "doomed")

    # then another calls the errback, and the message goes where it would have gone
    worker.diary.wait("lament", 1)
    until(lambda: sqs.left("emails-dlq") == 1, "it is in the dead-letter queue")
    [lament] = laments(worker)
    assert (lament["key"], lament["id"]) == ("doomed", sent.id)
    assert f"signal 9 (SIGKILL) Task: proj.pass_gate[{sent.id}]." in lament["exc"]
    assert "WorkerLostError" in lament["exc"]
    assert worker.stop() == 0
    assert worker.diary.count("start") == {"doomed": 1}


def test_before_the_last_delivery_nothing_is_final(sqs, start_worker, send, errback):
    sqs.create_with_dead_letters("emails", 2, VisibilityTimeout=1)
    send("kill_own_process", "emails", "twice", link_error=errback())

    worker = start_worker("-Q", "emails", "-c", "2")

    until(lambda: sqs.left("emails-dlq") == 1, "it is in the dead-letter queue")
    order = [entry["event"] for entry in worker.diary.entries() if entry["key"] == "twice"]
    assert order == ["run", "run", "lament"]
    assert worker.stop() == 0


def test_a_hard_time_limit_that_deletes_the_message(sqs, start_worker, send, errback, gate):
    sqs.create("emails", VisibilityTimeout=60)
    send("pass_gate", "emails", "slow", str(gate), time_limit=1, link_error=errback())

    worker = start_worker("-Q", "emails", "-c", "1", "task_acks_on_failure_or_timeout=true")

    worker.diary.wait("lament", 1)
    sqs.wait_empty("emails")
    assert laments(worker)[0]["exc"] == "TimeLimitExceeded(1.0)"
    assert worker.stop() == 0
    assert worker.diary.count("start") == worker.diary.count("lament") == {"slow": 1}


def test_a_message_that_was_deleted_early(sqs, start_worker, send, errback):
    sqs.create("emails", VisibilityTimeout=60)
    send("kill_own_process", "emails", "early", link_error=errback())

    worker = start_worker("-Q", "emails", "-c", "1", "task_acks_late=false")

    worker.diary.wait("lament", 1)
    sqs.wait_empty("emails")
    assert worker.stop() == 0
    assert worker.diary.count("run") == worker.diary.count("lament") == {"early": 1}


def test_a_failure_of_a_message_that_was_deleted_early_is_final_as_well(sqs, start_worker, send, errback):
    sqs.create("emails", VisibilityTimeout=60)
    send("fail", "emails", "early", link_error=errback())

    worker = start_worker("-Q", "emails", "-c", "1", "task_acks_late=false")

    worker.diary.wait("lament", 1)
    assert worker.stop() == 0
    assert worker.diary.count("run") == worker.diary.count("lament") == {"early": 1}


def test_a_recording_child_that_dies_too_is_not_followed_by_another(sqs, start_worker, send, errback):
    sqs.create("emails", VisibilityTimeout=60)
    send("kill_own_process", "emails", "bad", link_error=errback("die_lamenting"))

    worker = start_worker("-Q", "emails", "-c", "1", "worker_max_deliveries=1")

    until(lambda: sqs.state("emails-dlq").get("visible") == 1, "it was moved")
    send("note", "emails", "next")
    until(lambda: worker.diary.count("run")["next"] == 1, "the worker goes on")
    assert worker.stop() == 0
    assert worker.diary.count("lament") == {"bad": 1}


def test_a_fifo_group_waits_until_it_is_recorded(sqs, start_worker, send, errback, gate):
    # given two of one group, the first of which kills its process, and whose errback waits
    sqs.create("orders.fifo", ContentBasedDeduplication="true", VisibilityTimeout=60)
    send("kill_own_process", "orders.fifo", "a1", MessageGroupId="a", link_error=errback(gate=str(gate)))
    send("note", "orders.fifo", "a2", MessageGroupId="a")
    worker = start_worker("-Q", "orders.fifo", "-c", "3", "task_reject_on_worker_lost=false")
    worker.diary.wait("lament", 1)

    # when another group goes on
    send("note", "orders.fifo", "b1", MessageGroupId="b")
    until(lambda: worker.diary.count("run")["b1"] == 1, "the other group runs")

    # then this one does not, until its first message is recorded and deleted
    assert not worker.diary.count("run")["a2"]
    gate.write_text("")
    until(lambda: worker.diary.count("run")["a2"] == 1, "the group goes on")
    sqs.wait_empty("orders.fifo")
    assert worker.stop() == 0


def test_a_thread_that_is_given_up(sqs, start_worker, send, errback, gate):
    sqs.create("emails", VisibilityTimeout=60)
    send("pass_gate", "emails", "slow", str(gate), time_limit=1, link_error=errback())

    worker = start_worker("-Q", "emails", "-c", "1", "-P", "threads", "worker_max_deliveries=1")

    worker.diary.wait("lament", 1)
    until(lambda: sqs.state("emails-dlq").get("visible") == 1, "it was moved")
    assert laments(worker)[0]["exc"] == "TimeLimitExceeded(1.0)"
    gate.write_text("")
    assert worker.stop() == 0


@pytest.mark.timeout(120)
def test_a_task_that_kills_its_process_runs_five_times_ever_later_and_disturbs_nobody(sqs, start_worker, send):
    # given a task that is deadly, on a queue without a redrive policy, and a worker with other work
    sqs.create("emails", VisibilityTimeout=1)
    send("kill_own_process", "emails", "deadly")
    worker = start_worker("-Q", "emails", "-c", "2")
    worker.wait_ready()
    consumer = worker.family()[0]

    # when it runs again and again
    until(lambda: worker.diary.count("run")["deadly"] == 1, "it has run once")
    for number in range(2, 6):
        send("note", "emails", f"other-{number}")
        until(
            lambda number=number: worker.diary.count("run")["deadly"] == number, f"it runs for the {number}th time", 40
        )
    until(lambda: sqs.state("emails-dlq").get("visible") == 1, "it is a dead letter", 30)

    # then that was five times with growing pauses, and everything else ran once, on the same consumer
    runs = [entry["at"] for entry in worker.diary.entries() if entry["key"] == "deadly"]
    pauses = [after - before for before, after in pairwise(runs)]
    assert [pause >= least for pause, least in zip(pauses, (1, 2, 4, 8), strict=True)] == [True] * 4, pauses
    assert worker.diary.count("run") == {"deadly": 5, **{f"other-{number}": 1 for number in range(2, 6)}}
    assert worker.family()[0] == consumer
    assert worker.process.poll() is None
    sqs.wait_empty("emails")
    assert worker.stop() == 0
