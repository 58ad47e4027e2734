"""Deduplication by a store, on an SQS that delivers a tenth of its messages twice, also after their deletion."""

from __future__ import annotations

import shutil

import pytest

from tests.support.servers import RedisServer, free_port
from tests.support.waiting import until

pytestmark = [pytest.mark.processes, pytest.mark.skipif(not shutil.which("redis-server"), reason="no redis-server")]
TASKS = 300


@pytest.fixture
def redis():
    server = RedisServer()
    yield server
    server.close()


def send_many(send, number=TASKS):
    with send.app.publisher().batch():
        for each in range(number):
            send("note", "emails", each)


def settled(sqs):
    """Everything is deleted, and nothing comes again."""
    until(lambda: sqs.left("emails") == 0 and sqs.state("emails").get("inflight") == 0, "the queue is empty", 60)


@pytest.mark.slow
def test_side_effects_are_as_many_as_tasks(sqs, start_worker, send, redis):
    sqs.create("emails", VisibilityTimeout=5)
    sqs.trouble(duplicates=0.1)
    send_many(send)

    workers = [
        start_worker("-Q", "emails", "-c", "2", f"result_backend={redis.url()}", "sqs_deduplicate=open")
        for _ in range(2)
    ]

    workers[0].diary.wait("run", TASKS, 90)
    settled(sqs)
    assert sqs.stats()["duplicates"] > 5
    assert workers[0].diary.count("run") == dict.fromkeys(range(TASKS), 1)
    sqs.trouble(duplicates=0)
    assert [worker.stop() for worker in workers] == [0, 0]


@pytest.mark.slow
def test_without_it_some_run_twice(sqs, start_worker, send, redis):
    """Else the test above would show nothing."""
    sqs.create("emails", VisibilityTimeout=5)
    sqs.trouble(duplicates=0.5)
    send_many(send)

    worker = start_worker("-Q", "emails", "-c", "2", f"result_backend={redis.url()}")

    worker.diary.wait("run", TASKS + 1, 90)
    assert max(worker.diary.count("run").values()) > 1
    sqs.trouble(duplicates=0)
    assert worker.stop() == 0


def test_with_the_store_away_open_runs_all(sqs, start_worker, send):
    sqs.create("emails")
    send_many(send, 50)
    nowhere = f"redis://127.0.0.1:{free_port()}/0"

    worker = start_worker(
        "-Q", "emails", "-c", "2", f"result_backend={nowhere}", "sqs_deduplicate=open", "task_ignore_result=true"
    )

    worker.diary.wait("run", 50, 60)
    sqs.wait_empty("emails")
    assert worker.diary.count("run") == dict.fromkeys(range(50), 1)
    assert worker.log.count("tasks run without it") <= 2
    assert worker.stop() == 0


def test_with_the_store_away_closed_waits_for_it(sqs, start_worker, send):
    sqs.create("emails")
    send_many(send, 5)
    port = free_port()

    worker = start_worker(
        *("-Q", "emails", "-c", "1", f"result_backend=redis://127.0.0.1:{port}/0"),
        *("sqs_deduplicate=closed", "task_ignore_result=true"),
    )

    worker.wait_logged("tasks wait for it")
    assert not worker.diary.count("run")
    server = RedisServer(port=port)
    try:
        worker.diary.wait("run", 5, 60)
        sqs.wait_empty("emails")
        assert worker.stop() == 0
    finally:
        server.close()


def test_a_redelivery_after_a_crash_runs_at_once(sqs, start_worker, send, redis):
    """The claim of a process that is gone holds nobody up."""
    sqs.create_with_dead_letters("emails", 2, VisibilityTimeout=1)
    send("kill_own_process", "emails", "x")

    worker = start_worker("-Q", "emails", "-c", "1", f"result_backend={redis.url()}", "sqs_deduplicate=open")

    worker.diary.wait("run", 2, 30)
    assert worker.stop() == 0
