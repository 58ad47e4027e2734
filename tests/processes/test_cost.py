"""What keeps a worker's memory and its idling small: facts that the benchmarks' figures rest on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.waiting import until

pytestmark = pytest.mark.processes
POLLS = 3
LOOKS_MOST = 60
"""Far more than the manager's few looks in as many seconds as so many short polls take, far less than a loop that spins."""


def polls_of(sqs) -> int:
    return sqs.requests().get("ReceiveMessage", 0)


def wake_ups(pid: int) -> int:
    """How often the process has begun to wait for something (proc(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


def test_a_child_shares_what_its_parent_has_loaded_and_loads_nothing_itself(sqs, send, start_worker):
    """Given two children; when each runs tasks; then they have imported nothing since the fork, and nobody boto3."""
    sqs.create("emails")
    worker = start_worker("-Q", "emails", "-c", "2", app="lean")
    for number in range(10):
        send("note", "emails", number)
        send("tell_loaded", "emails", number)
    worker.diary.wait("loaded", 10)
    told = [entry for entry in worker.diary.entries() if entry["event"] == "loaded"]
    assert [entry["fresh"] for entry in told] == [[]] * 10
    assert all(not {"boto3", "botocore", "urllib3"}.intersection(entry["packages"]) for entry in told)
    assert all(entry["frozen"] > 10_000 for entry in told), "what is shared is left to the garbage collector"


def test_nobody_wakes_but_for_polls_and_a_few_looks(sqs, start_worker):
    """Given an idle worker; when polls come and go; then its children sleep through, and its manager wakes a few times."""
    sqs.create("emails")
    worker = start_worker("-Q", "emails", "-c", "3")
    worker.wait_ready()
    _, *children = worker.wait_family(4)
    until(lambda: polls_of(sqs) >= 2, "the worker has settled down")
    manager = worker.process.pid
    polls, before = polls_of(sqs), {pid: wake_ups(pid) for pid in [manager, *children]}
    until(lambda: polls_of(sqs) >= polls + POLLS, "polls have come and gone")
    after = {pid: wake_ups(pid) for pid in before}
    assert {pid: after[pid] - before[pid] for pid in children} == dict.fromkeys(children, 0)
    assert after[manager] - before[manager] < LOOKS_MOST
