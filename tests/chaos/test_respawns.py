"""Children that are replaced all the time: nobody is left unburied, and nothing stays open."""

from __future__ import annotations

import pytest

from tests.support.proc import descriptors, processes_of_session
from tests.support.worker import Worker

pytestmark = [pytest.mark.processes, pytest.mark.slow]


def pids(worker: Worker, since: int = 0) -> list[int]:
    return [entry["pid"] for entry in worker.diary.entries() if entry["event"] == "run"][since:]


@pytest.mark.timeout(300)
def test_a_thousand_replaced_children_leave_nothing_behind(sqs, start_worker, send):
    # given a worker that replaces its children after each task, and has done so fifty times
    sqs.create("emails", VisibilityTimeout=60)
    worker = start_worker("-Q", "emails", "-c", "2", "--max-tasks-per-child", "1", "-l", "WARNING")
    with send.app.publisher().batch():
        for number in range(50):
            send("note", "emails", f"warm-{number}")
    worker.diary.wait("run", 50, 60)
    sqs.wait_empty("emails")
    consumer = worker.wait_family(3)[0]
    before = [descriptors(pid) for pid in (worker.process.pid, consumer)]

    # when a thousand tasks come
    with send.app.publisher().batch():
        for number in range(1000):
            send("note", "emails", number)
    ran = worker.diary.wait("run", 1050, 240)
    sqs.wait_empty("emails")

    # then each ran once, in a process of its own, and manager and consumer are as they were
    assert [key for key, count in ran.items() if count != 1] == []
    assert len(set(pids(worker))) == 1050
    assert worker.wait_family(3)[0] == consumer
    assert processes_of_session(worker.session, zombies=True) == []
    after = [descriptors(pid) for pid in (worker.process.pid, consumer)]
    assert after[0] == before[0]
    assert after[1] <= before[1] + 4, "connections to SQS may come and go; descriptors of children may not stay"
    assert worker.stop() == 0


def test_children_replaced_after_fifty_tasks_lose_and_repeat_nothing(sqs, start_worker, send):
    sqs.create("emails", VisibilityTimeout=60)
    worker = start_worker("-Q", "emails", "-c", "3", "--max-tasks-per-child", "50", "-l", "WARNING")

    with send.app.publisher().batch():
        for number in range(2000):
            send("note", "emails", number)
    ran = worker.diary.wait("run", 2000, 100)
    sqs.wait_empty("emails")

    assert ran == dict.fromkeys(range(2000), 1)
    children = pids(worker)
    assert max(children.count(pid) for pid in set(children)) == 50
    assert worker.stop() == 0


def test_tasks_that_kill_their_process_at_once_do_not_keep_a_slot_empty(sqs, start_worker, send):
    """A child that cannot start is started again ever later; one that a task has ended is replaced soon."""
    sqs.create_with_dead_letters("emails", 1, VisibilityTimeout=1)
    worker = start_worker("-Q", "emails", "-c", "1", "-l", "WARNING")

    with send.app.publisher().batch():
        for number in range(8):
            send("kill_own_process", "emails", number)
    worker.diary.wait("run", 8, 40)
    send("note", "emails", "good")

    assert worker.diary.wait("run", 9, 15)["good"] == 1
    assert worker.stop() == 0
