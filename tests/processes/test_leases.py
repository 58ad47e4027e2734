"""Long tasks on queues with short timeouts: one start, few requests; and back soon when their machine is gone."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.support.waiting import until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]
TASK_SECONDS = float(os.environ.get("PYQS_LONG_TASK_SECONDS", "12"))
LEASE_SECONDS = int(os.environ.get("PYQS_LONG_TASK_LEASE", "3"))
KILLED_AFTER = TASK_SECONDS / 3
"""In the long version a task of a minute, a queue timeout of five seconds, and a worker killed after twenty."""


@pytest.fixture
def three_workers(sqs, start_worker, send, tmp_path):
    """Three workers of one child, and a task that waits for a file at one of them."""
    gate = tmp_path / "gate"
    sqs.create("emails", VisibilityTimeout=LEASE_SECONDS)
    send("wait_for", "emails", "long", str(gate))
    options = ("-Q", "emails", "-c", "1", f"worker_lease_seconds={LEASE_SECONDS}")
    workers = [start_worker(*options, "-n", f"w{number}") for number in range(3)]
    for worker in workers:
        worker.wait_ready()
    workers[0].diary.wait("start", 1)
    return workers, gate


def test_a_task_of_many_leases_starts_once_and_costs_a_renewal_for_a_third_of_a_lease(sqs, three_workers):
    workers, gate = three_workers
    sqs.ask("reset")
    began = time.monotonic()

    until(lambda: time.monotonic() - began >= TASK_SECONDS, "the task has taken its time", TASK_SECONDS + 10)
    renewals = sqs.requests().get("ChangeMessageVisibilityBatch", 0)
    thirds = (time.monotonic() - began) / (LEASE_SECONDS / 3)
    gate.touch()

    sqs.wait_empty("emails")
    assert workers[0].diary.count("start") == {"long": 1}
    assert thirds / 3 <= renewals <= thirds + 1, f"{renewals} renewals in {thirds:.1f} thirds of a lease"
    assert [worker.stop() for worker in workers] == [0, 0, 0]


def test_when_its_machine_is_gone_a_task_starts_elsewhere_within_a_lease_and_five_seconds(sqs, three_workers):
    workers, gate = three_workers
    began = time.monotonic()
    until(lambda: time.monotonic() - began >= KILLED_AFTER, "the task has run for a while", KILLED_AFTER + 10)
    [start] = [entry for entry in workers[0].diary.entries() if entry["event"] == "start"]
    [victim] = [worker for worker in workers if start["pid"] in worker.family()]

    os.killpg(victim.session, signal.SIGKILL)
    killed = time.time()
    workers[0].diary.wait("start", 2, 60)

    starts = [entry["at"] for entry in workers[0].diary.entries() if entry["event"] == "start"]
    assert starts[1] - killed <= LEASE_SECONDS + 5
    gate.touch()
    sqs.wait_empty("emails")
    assert workers[0].diary.count("start") == {"long": 2}
    assert workers[0].diary.count("end") == {"long": 1}
    assert [worker.stop() for worker in workers if worker is not victim] == [0, 0]
