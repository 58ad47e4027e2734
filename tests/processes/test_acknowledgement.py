"""Every cell of the matrix of acknowledgement: what becomes of the message, by how the run ended, in both modes.

``gone``: deleted, and run once (or not at all if it had expired). ``back``: seen again. ``dead``: moved to the
dead-letter queue. https://docs.celeryq.dev/en/stable/userguide/configuration.html#task-acks-late
"""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from pyqs_celery import Celery
from tests.support.embedded import EmbeddedSqs
from tests.support.waiting import until
from tests.support.worker import Worker

pytestmark = pytest.mark.processes

KINDS = """
    succeed fail fail-unacked fail-acked retry ignore reject-requeue reject lost lost-rejected lost-acked soft-limit
    hard-limit hard-limit-acked expired
""".split()
EARLY = dict.fromkeys(KINDS, "gone") | {"unknown-task": "back"}
PYQS = EARLY | {
    "fail": "back",
    "fail-unacked": "back",
    "reject-requeue": "back",
    "reject": "dead",
    "lost": "back",
    "lost-rejected": "back",
    "soft-limit": "back",
    "hard-limit": "back",
}
CELERY_LATE = EARLY | {
    "fail-unacked": "back",
    "reject-requeue": "back",
    "reject": "dead",
    "lost-rejected": "back",
}
EXPECTED = {
    ("pyqs", "unset"): PYQS,
    ("pyqs", "early"): EARLY,
    ("pyqs", "late"): PYQS,
    ("celery", "unset"): EARLY,
    ("celery", "early"): EARLY,
    ("celery", "late"): CELERY_LATE,
}
CELLS = [(mode, late, kind) for (mode, late), row in EXPECTED.items() for kind in row]


@pytest.fixture(scope="module")
def run(request, sqs_server: EmbeddedSqs, tmp_path_factory) -> Iterator[dict[str, Any]]:
    """One worker per mode, one queue per cell; everything has run when this is given."""
    sqs, mode = sqs_server, request.param
    sqs.wipe()
    prefix = f"m{uuid.uuid4().hex[:6]}-"
    sender = Celery("sender", broker="sqs://test:test@", set_as_current=False)
    sender.conf.broker_transport_options = {"region": "us-east-1", "endpoint_url": sqs.endpoint}
    cells = [(late, kind) for cell_mode, late, kind in CELLS if cell_mode == mode]
    for late, kind in cells:
        queue = f"{prefix}{kind}-{late}"
        sqs.create(queue, VisibilityTimeout=1)
        options = {"expires": -5} if kind == "expired" else {}
        sender.send_task(f"{kind}.{late}", (f"{kind}-{late}",), queue=queue, **options)
    sender.close()
    worker = Worker(
        sqs,
        tmp_path_factory.mktemp("matrix"),
        *("-Q", f"{prefix}*", "-c", "8", f"sqs_delivery={mode}", "worker_max_deliveries=4"),
        app="matrix",
    )

    def fate(late: str, kind: str) -> str | None:
        queue = f"{prefix}{kind}-{late}"
        if sqs.state(f"{queue}-dlq").get("visible") and worker.diary.count("run")[f"{kind}-{late}"] == 1:
            return "dead"
        if kind == "unknown-task":
            return "back" if worker.log.count(f"'{kind}.{late}'") and sqs.left(queue) else None
        runs = worker.diary.count("run")[f"{kind}-{late}"]
        if runs >= 2 and kind != "retry":
            return "back"
        done = {"expired": 0, "retry": 2}.get(kind, 1)
        return "gone" if runs == done and sqs.left(queue) == 0 else None

    try:
        until(lambda: all(fate(*cell) for cell in cells), "every message has met its fate", 90)
        yield {"mode": mode, "fates": {cell: fate(*cell) for cell in cells}}
        assert worker.stop() == 0
    finally:
        worker.kill_all()


@pytest.mark.parametrize("run", ["pyqs", "celery"], indirect=True, scope="module")
@pytest.mark.parametrize("late", ["unset", "early", "late"])
@pytest.mark.parametrize("kind", EARLY)
def test_a_cell(run, late, kind):
    assert run["fates"][late, kind] == EXPECTED[run["mode"], late][kind]


@pytest.mark.parametrize(("late", "runs"), [("false", 1), ("true", 2)])
def test_when_the_whole_worker_is_killed_late_acks_bring_the_task_back(sqs, start_worker, send, tmp_path, late, runs):
    # given a task that runs, of a worker that deletes early or late
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    sqs.create("emails", VisibilityTimeout=5)
    send("pass_gate", "emails", "job", str(gate))
    words = ("-Q", "emails", "-c", "1", f"task_acks_late={late}", "worker_ack_before_run=wait")
    worker = start_worker(*words)
    worker.diary.wait("start", 1)

    # when every process of it is killed at once, and another worker begins
    os.killpg(worker.process.pid, signal.SIGKILL)
    worker.wait()
    another = start_worker(*words)
    another.wait_ready()

    # then the task runs again, or is lost, as was asked for
    if runs == 2:
        another.diary.wait("start", 2)
        gate.open("w").close()
    sqs.wait_empty("emails")
    assert another.stop() == 0
    assert another.diary.count("start")["job"] == runs
