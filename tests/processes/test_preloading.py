"""What is imported at first use is there before children are forked: they share it, and no task waits for it."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.processes


def test_a_child_imports_nothing_for_the_tasks_it_runs(sqs, start_worker, send):
    sqs.create("emails")
    worker = start_worker("-Q", "emails", "-c", "1", app="loads")
    worker.wait_ready()

    for task, argument in (("look", "at first"), ("fail", "once"), ("look", "after a failure")):
        send.app.send_task(f"loads.{task}", (argument,), queue="emails")
        if task == "look":
            worker.diary.wait("look", 1 if argument == "at first" else 2)

    assert {entry["key"]: entry["new"] for entry in worker.diary.entries()} == {"at first": [], "after a failure": []}
