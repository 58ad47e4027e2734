"""The simulation of a fleet counts what real workers were counted to ask."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter

import pytest

from benchmarks.fleet import Bill, CeleryWorker, Clock, Fleet, OurWorker, Queues, main, month, run_cell


def cell(queues, **facts):
    return Fleet(**{"workers": 1, "queues": queues, "queues_per_worker": queues, "tasks_per_day": 0, **facts})


def drain(kind, messages, children, task_seconds=0.001):
    """What it takes to work off so many messages that wait on one queue."""
    clock = Clock()
    queues = Queues(clock, ["q"])
    for _ in range(messages):
        queues.send("q")
    worker = kind(clock, queues, ["q"], Fleet(queues_per_worker=1, children=children, task_seconds=task_seconds))
    clock.run(clock.now + 600)
    assert len(worker.waits) == messages
    idle = 600 / 10  # the polls of the time after it
    return queues.requests, idle


@pytest.mark.parametrize(("queues", "an_hour"), [(1, 327), (20, 3273), (100, 3273)])
def test_idle_celery_asks_as_often_as_was_counted(queues, an_hour):
    """Counted of Celery 5.7: 327 requests an hour with one queue, 3,273 with twenty."""
    requests, _ = run_cell(CeleryWorker, cell(queues), 0, seconds=3600)

    assert requests["ReceiveMessage"] == pytest.approx(an_hour, rel=0.01)


@pytest.mark.parametrize(("wait", "an_hour"), [(None, 300), (10, 360), (20, 180)])
@pytest.mark.parametrize("queues", [1, 20, 200])
def test_idle_we_ask_once_a_poll_for_each_queue(queues, wait, an_hour):
    requests, _ = run_cell(OurWorker, cell(queues, wait_seconds=wait), 0, seconds=3600)

    assert requests["ReceiveMessage"] / queues == pytest.approx(an_hour, rel=0.01)


def test_celery_works_off_a_thousand_by_as_many_requests_as_were_counted():
    """Counted of Celery 5.7 with ten children: 1,100 to 1,174 for 1,000 tasks."""
    requests, idle = drain(CeleryWorker, 1000, children=10)

    assert requests["DeleteMessage"] == 1000
    assert 1095 <= sum(requests.values()) - idle <= 1250


def test_we_work_off_a_thousand_by_two_hundred():
    requests, idle = drain(OurWorker, 1000, children=10)

    assert requests["DeleteMessageBatch"] <= 105
    assert sum(requests.values()) - idle <= 215


@pytest.mark.processes
def test_a_real_worker_asks_what_the_simulation_says(sqs, start_worker, send):
    # given a real worker on five idle queues, whose polls wait for a second
    names = [f"calm-{number}" for number in range(5)]
    for name in names:
        sqs.create(name)
    options = json.dumps({"broker_transport_options": {"wait_time_seconds": 1}})
    worker = start_worker("-Q", ",".join(names), "-c", "2", "-l", "WARNING", PROJ_CONF=options)
    for name in names:
        sqs.wait_polled(name)

    # when it is left alone for a while
    sqs.ask("reset")
    began = time.monotonic()
    threading.Event().wait(5)
    real, seconds = sqs.requests(), time.monotonic() - began

    # then it asks what the simulation says, but for what begins and ends at the edges, and a busy machine's delays
    simulated, _ = run_cell(OurWorker, cell(5, wait_seconds=1), 0, seconds=seconds)
    expected = simulated["ReceiveMessage"] * seconds / 3600
    assert set(real) == {"ReceiveMessage"}
    assert 0.7 * expected - 5 <= real["ReceiveMessage"] <= expected + 5, (real, expected)

    # and so it does for tasks that come one by one
    sqs.ask("reset")
    for number in range(10):
        send("note", names[0], number)
        worker.diary.wait("run", number + 1)
        sqs.wait_empty(names[0])
    assert sqs.requests()["DeleteMessageBatch"] == 10
    assert worker.stop() == 0


def test_tasks_that_come_one_by_one_are_deleted_one_by_one():
    requests, waits = run_cell(OurWorker, cell(1, tasks_per_day=2400), 100, seconds=3600)

    assert 95 <= requests["DeleteMessageBatch"] <= 100
    assert len(waits) == 100
    assert max(waits) < 0.1


def test_a_message_goes_to_one_worker_of_its_cell():
    fleet = Fleet(workers=40, queues=12, queues_per_worker=3, tasks_per_day=0)
    assert fleet.workers_of_a_queue == fleet.workers_to_run == 10

    for kind in (OurWorker, CeleryWorker):
        requests, waits = run_cell(kind, fleet, 60, seconds=600)
        assert len(waits) == 100
        deleted = requests.get("DeleteMessageBatch", 0) + requests.get("DeleteMessage", 0)
        assert deleted == pytest.approx(60, abs=3)


def test_a_huge_cell_is_run_in_part_and_says_nothing_of_waits():
    fleet = Fleet(workers=1000, queues=1000, queues_per_worker=1000, minutes=2)
    assert (fleet.workers_of_a_queue, fleet.workers_to_run) == (1000, 1)

    bill = month(OurWorker, fleet)

    assert bill.requests["ReceiveMessage"] == pytest.approx(1000 * 1000 * 300 * 720, rel=0.05)
    assert not bill.waits


def test_a_huge_cell_of_celerys_is_run_smaller_and_asks_the_same():
    fleet = Fleet(workers=200, queues=200, queues_per_worker=200, tasks_per_day=1_000_000)
    small = fleet.smaller()
    assert small.workers_of_a_queue * small.queues_per_worker <= 1100
    assert small.share_of_a_worker == pytest.approx(fleet.share_of_a_worker)

    bill = month(CeleryWorker, fleet)

    assert bill.requests["DeleteMessage"] == pytest.approx(30_000_000, rel=0.1)
    assert bill.requests["ReceiveMessage"] == pytest.approx(200 * 3273 * 720, rel=0.1)


def test_the_bill_has_every_hour_of_the_month():
    fleet = Fleet(workers=10, queues=10, queues_per_worker=1, tasks_per_day=24_000, load=(2.0, 0.0), minutes=60)

    bill = month(OurWorker, fleet)

    assert bill.requests["SendMessage"] == 24_000 * 30
    assert bill.requests["DeleteMessageBatch"] == pytest.approx(24_000 * 30, rel=0.1)
    assert bill.requests["at the start"] == 2 * 10 * 30


@pytest.mark.parametrize(
    ("requests", "kind", "dollars"),
    [
        (1_000_000, "standard", 0),
        (11_000_000, "standard", 4),
        (11_000_000, "fifo", 5),
        (100e9 + 1e6, "standard", 40_000),
        (250e9 + 1e6, "standard", 40_000 + 30_000 + 12_000),
        (250e9 + 1e6, "fifo", 50_000 + 40_000 + 17_500),
    ],
)
def test_prices(requests, kind, dollars):
    assert Bill(Counter({"ReceiveMessage": requests})).dollars(kind) == pytest.approx(dollars)


def test_anyone_can_run_it(capsys):
    main(["--workers", "4", "--queues", "4", "--queues-per-worker", "2", "--tasks-per-day", "2000", "--minutes", "5"])

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| as told | pyqs-celery | ")
    assert lines[3].startswith("| as told | Celery 5.7 | ")
