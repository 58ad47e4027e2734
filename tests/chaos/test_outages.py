"""SQS fails in every way it can, for every kind of call, and comes back: work goes on at once, and nobody else has noticed.

One worker serves a queue for each pair of an action and a way to fail; all fail at the same time, for
``PYQS_CELERY_CHAOS_SECONDS``. A control queue, which is well, is served beside them.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import pytest

from tests.support.embedded import EmbeddedSqs
from tests.support.sender import Sender, body_with_eta
from tests.support.servers import free_port
from tests.support.waiting import until
from tests.support.worker import Worker

pytestmark = [pytest.mark.processes, pytest.mark.slow]
OUTAGE_SECONDS = float(os.environ.get("PYQS_CELERY_CHAOS_SECONDS", "8"))
ROUNDS = int(os.environ.get("PYQS_CELERY_CHAOS_ROUNDS", "1"))
LEASE_SECONDS = max(20, round(2 * OUTAGE_SECONDS))
READ_SECONDS = 11
"""After how long a call without an answer is given up: the application waits for one second in its polls."""
SOON_SECONDS = 5.0
NOISE_SECONDS = 3.0
"""What a busy machine may add to any time measured here."""

REFUSED = ("500", "503", "throttle", "403", "missing", "expired", "reset")
LOST = ("timeout", "reset_after", "slow_body")
PARTLY = ("partial", "partial_after")
ACTIONS = {
    "receive": "ReceiveMessage",
    "delete": "DeleteMessageBatch",
    "visibility": "ChangeMessageVisibilityBatch",
    "send": "SendMessage",
    "hop": "SendMessageBatch",
}
"""What the worker asks of SQS; ``send`` is a task that sends another, ``hop`` a message that is too early and sent on."""


@dataclass(frozen=True)
class Cell:
    action: str
    kind: str

    @property
    def queue(self) -> str:
        return f"{self.action}-{self.kind}"

    @property
    def struck(self) -> str:
        """The queue that fails: a relay's own is well, the one it sends to is not."""
        return f"to-{self.kind}" if self.action == "send" else self.queue

    @property
    def rule(self) -> dict[str, object]:
        return {
            "kind": self.kind,
            "action": ACTIONS[self.action],
            "queue": self.struck,
            "body_seconds": OUTAGE_SECONDS,
        }

    @property
    def may_repeat(self) -> bool:
        """True where an answer is lost after a message was sent: only the sender's second try makes sure of it."""
        return self.action in ("send", "hop") and self.kind in ("reset_after", "partial_after", "slow_body")

    @property
    def longest_seconds(self) -> float:
        """In what time the first task after recovery must have run."""
        if self.kind == "timeout":
            return READ_SECONDS + SOON_SECONDS
        if self.kind == "slow_body":
            return OUTAGE_SECONDS + SOON_SECONDS
        if self.action == "receive" and self.kind == "reset_after":
            return LEASE_SECONDS
        return 20.0 if self.kind == "throttle" else SOON_SECONDS


CELLS = [
    Cell(action, kind)
    for action in ACTIONS
    for kind in (*REFUSED, *LOST, *(PARTLY if ACTIONS[action].endswith("Batch") else ()))
]


@dataclass
class Outage:
    """What was seen: how often each key was run, when first, and the latencies of the control queue."""

    worker: Worker
    pids: list[int]
    cleared: float = 0.0
    runs: Counter[str] = field(default_factory=Counter)
    first: dict[str, float] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)
    exit_code: int | None = None
    log: str = ""


class Control:
    """Sends a note to the control queue twice a second, until it is closed."""

    def __init__(self, send: Sender) -> None:
        self.sent: dict[str, float] = {}
        self._send = send
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(0.5):
            key = f"control {len(self.sent)}"
            self.sent[key] = time.time()
            self._send("note", "control", key)

    def close(self) -> None:
        self._over.set()
        self._thread.join()


def observe(outage: Outage) -> None:
    for entry in outage.worker.diary.entries():
        if entry["event"] in ("run", "start"):
            outage.runs[entry["key"]] += 1
            outage.first.setdefault(entry["key"], entry["at"])


def give_everybody_work(send: Sender, sqs: EmbeddedSqs, gate: Path, eta: float) -> None:
    for cell in CELLS:
        key = f"{cell.queue} during"
        if cell.action == "visibility":
            send("wait_for", cell.queue, key, str(gate))
        elif cell.action == "send":
            send("relay", cell.queue, key, cell.struck)
        elif cell.action == "hop":
            sqs.put(cell.queue, body_with_eta("note", key, at=eta))
        else:
            send("note", cell.queue, key)


def give_everybody_more(send: Sender) -> None:
    for cell in CELLS:
        if cell.action == "send":
            send("relay", cell.queue, f"{cell.queue} after", cell.struck)
        else:
            send("note", cell.queue, f"{cell.queue} after")


def go_through(sqs: EmbeddedSqs, worker: Worker, send: Sender, gate: Path) -> Outage:
    worker.wait_ready()
    family = worker.wait_family(31)
    until(lambda: all(sqs.is_polled(cell.queue) for cell in CELLS), "all queues are polled")
    seen = Outage(worker, [worker.process.pid, family[0]])
    control = Control(send)
    try:
        sqs.faults(*(cell.rule for cell in CELLS))
        began = time.time()
        eta = began + OUTAGE_SECONDS + READ_SECONDS + 2
        give_everybody_work(send, sqs, gate, eta)
        until(lambda: time.time() - began > OUTAGE_SECONDS, "the outage is over", OUTAGE_SECONDS + 30)
        sqs.no_faults()
        seen.cleared = time.time()
        give_everybody_more(send)
        until(lambda: time.time() > max(eta, began + LEASE_SECONDS) + 1, "leases would have ended", 120)
        gate.touch()
        for cell in CELLS:
            until(lambda cell=cell: not sqs.left(cell.queue), f"{cell.queue} is empty", 30)
            until(lambda cell=cell: not sqs.left(cell.struck), f"{cell.struck} is empty", 30)
    finally:
        control.close()
    sqs.wait_empty("control")
    seen.pids += [worker.process.pid, worker.family()[0]]
    seen.exit_code = worker.stop()
    seen.left = {cell.queue: sqs.left(cell.queue) for cell in CELLS}
    seen.log = worker.log
    observe(seen)
    seen.latencies = [seen.first[key] - at for key, at in control.sent.items()]
    return seen


@pytest.fixture(scope="module")
def outage(sqs_server):
    """All of it, once for all tests that look at it."""
    folder = Path(tempfile.mkdtemp())
    names = {"control", *(cell.queue for cell in CELLS), *(cell.struck for cell in CELLS)}
    for name in names:
        sqs_server.create(name, VisibilityTimeout=2)
    conf = f'{{"worker_lease_seconds": {LEASE_SECONDS}, "worker_max_deliveries": 1000}}'
    send = Sender(sqs_server)
    worker = Worker(sqs_server, folder, "-Q", ",".join(sorted(names)), "-c", "30", PROJ_CONF=conf)
    try:
        seen = go_through(sqs_server, worker, send, folder / "gate")
        tell(seen)
        yield seen
    finally:
        worker.kill_all()
        send.close()
        shutil.rmtree(folder)


def tell(outage: Outage) -> None:
    """The figures, for people who run this with ``-s``."""
    print(f"\ncontrol: median {median(outage.latencies):.3f} s, longest {max(outage.latencies):.3f} s")
    for action in ACTIONS:
        times = []
        for cell in CELLS:
            key = f"{cell.queue} after" + (" relayed" if action == "send" else "")
            if cell.action == action:
                times.append(f"{cell.kind} {outage.first[key] - outage.cleared:.1f}")
        print(f"{action}: first task after recovery, seconds: {', '.join(times)}")


def named(cell: Cell) -> str:
    return cell.queue


@pytest.mark.timeout(300)
@pytest.mark.parametrize("cell", CELLS, ids=named)
def test_work_goes_on_soon_after_recovery_and_nothing_is_lost_or_run_twice(outage, cell):
    after = f"{cell.queue} after" + (" relayed" if cell.action == "send" else "")
    during = f"{cell.queue} during" + (" relayed" if cell.action == "send" else "")
    assert outage.first[after] - outage.cleared < cell.longest_seconds + NOISE_SECONDS
    assert outage.runs[after] == 1
    assert outage.runs[during] == 1 or (cell.may_repeat and outage.runs[during] > 1)


def test_nothing_is_left_on_any_queue_and_no_process_was_started_anew(outage):
    assert not any(outage.left.values())
    assert outage.pids[:2] == outage.pids[2:]
    assert outage.exit_code == 0


def test_a_queue_that_is_well_notices_nothing(outage):
    """Its tasks begin at once: no call of another queue, no backoff and no time limit stands before them."""
    assert len(outage.latencies) > OUTAGE_SECONDS
    assert median(outage.latencies) < 0.5
    assert max(outage.latencies) < NOISE_SECONDS


def test_the_log_has_a_line_a_minute_for_each_cause(outage):
    lines = [line for line in outage.log.splitlines() if re.search(r"(ERROR|WARNING|CRITICAL)/MainProcess\]", line)]
    shapes = Counter(
        re.sub(r"(Queue |on )[\w-]+( \(and \d+ others?\))?|[0-9a-f-]{36}|\[.*?\]", "", line) for line in lines
    )
    minutes = 1 + (OUTAGE_SECONDS + 40) // 60
    assert max(shapes.values()) <= minutes, "\n".join(lines)
    assert len(lines) < 60 * minutes


def runs_of(worker: Worker) -> Counter[str]:
    return worker.diary.count("run")


def ran_at(worker: Worker, key: str) -> float:
    return next(entry["at"] for entry in worker.diary.entries() if entry["key"] == key)


@pytest.fixture
def worker_of(tmp_path):
    """Starts workers on any server, and ends them."""
    workers = []

    def start(sqs: EmbeddedSqs, *arguments: str, **variables: str) -> Worker:
        workers.append(Worker(sqs, tmp_path / "work", *arguments, **variables))
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill_all()


def test_a_worker_that_starts_while_sqs_is_away_comes_up_with_it_and_survives_its_restart(worker_of, tmp_path):
    # given a worker whose endpoint refuses connections
    port, data = str(free_port()), str(tmp_path / "sqs.db")
    away = EmbeddedSqs("--port", port, "--data", data)
    away.create("emails")
    away.close()
    worker = worker_of(away, "-Q", "emails", "-c", "1")
    worker.wait_logged("Cannot connect to")
    # when it comes, goes while a task runs, and comes again
    there = EmbeddedSqs("--port", port, "--data", data)
    worker.wait_ready()
    send = Sender(there)
    gate = tmp_path / "gate"
    send("wait_for", "emails", "long", str(gate))
    send("note", "emails", "waits")
    worker.diary.wait("start", 1)
    there.close()
    worker.wait_logged("SQS cannot be reached")
    gate.touch()
    worker.diary.wait("end", 1)
    there = EmbeddedSqs("--port", port, "--data", data)
    back = time.time()
    # then each task has run once and is deleted
    there.wait_empty("emails")
    assert ran_at(worker, "waits") - back < SOON_SECONDS + NOISE_SECONDS
    assert worker.diary.count("start")["long"] == runs_of(worker)["waits"] == 1
    assert worker.stop() == 0
    send.close()
    there.close()


def test_a_queue_that_is_deleted_and_made_again_is_served_again(sqs, send, worker_of):
    sqs.create("emails")
    sqs.create("other")
    worker = worker_of(sqs, "-Q", "emails,other", "-c", "2")
    sqs.wait_polled("emails")
    sqs.delete("emails")
    worker.wait_logged("Queue emails is gone")
    send("note", "other", "beside it")
    worker.diary.wait("run", 1)

    sqs.create("emails")
    made = time.time()
    send("note", "emails", "made again")
    worker.diary.wait("run", 2)

    assert ran_at(worker, "made again") - made < SOON_SECONDS + NOISE_SECONDS
    assert "looking again" in worker.log
    assert worker.stop() == 0


def test_tasks_whose_messages_cannot_be_deleted_run_once_however_long_that_lasts(sqs, send, worker_of):
    """Row 19: leases of five seconds, no deletion for eleven."""
    # given one queue on which deleting is denied, and one on which it fails
    for queue in ("denied", "failing"):
        sqs.create(queue, VisibilityTimeout=2)
    may = ["ReceiveMessage", "ChangeMessageVisibility", "GetQueueUrl", "GetQueueAttributes"]
    sqs.policies(WORKER=[{"actions": may}, {"actions": ["DeleteMessage"], "queues": ["failing"]}])
    sqs.faults({"kind": "500", "action": "DeleteMessageBatch", "queue": "failing"})
    conf = '{"worker_lease_seconds": 5}'
    worker = worker_of(sqs, "-Q", "denied,failing", "-c", "2", PROJ_CONF=conf, AWS_ACCESS_KEY_ID="WORKER")
    worker.wait_ready()
    began = time.time()
    for queue in ("denied", "failing"):
        for number in range(4):
            send("note", queue, f"{queue} {number}")
    worker.diary.wait("run", 5)
    until(lambda: time.time() - began > 11, "two leases have passed", 30)
    # then nothing has run twice, nothing is taken that could not be deleted, and people are told what to allow
    assert set(runs_of(worker).values()) == {1}
    send("note", "denied", "denied 4")
    until(lambda: sqs.state("denied")["visible"] >= 1, "what came later is left there")
    lines = [line for line in worker.log.splitlines() if "sqs:DeleteMessage" in line]
    assert len(lines) == 1, worker.log
    # when it is possible again, all is done that was not, and all is deleted
    sqs.policies()
    sqs.no_faults()
    allowed = time.time()
    for queue in ("denied", "failing"):
        sqs.wait_empty(queue, 20)
    assert time.time() - allowed < SOON_SECONDS + NOISE_SECONDS
    assert set(runs_of(worker).values()) == {1}
    assert len(runs_of(worker)) == 9
    assert worker.stop() == 0


@pytest.mark.timeout(60 + 40 * ROUNDS)
def test_a_receive_that_is_never_answered_stops_neither_its_queue_nor_others(sqs, send, worker_of):
    """Row 1, ``PYQS_CELERY_CHAOS_ROUNDS`` times over."""
    sqs.create("a")
    sqs.create("b")
    worker = worker_of(sqs, "-Q", "a,b", "-c", "2")
    worker.wait_ready()
    for number in range(ROUNDS):
        sqs.faults({"kind": "timeout", "action": "ReceiveMessage", "queue": "a", "count": 1})
        until(lambda number=number: sqs.stats().get("fault_timeout") == number + 1, "a receive is swallowed")
        sent = time.time()
        send("note", "a", f"a{number}")
        send("note", "b", f"b{number}")
        worker.diary.wait("run", 2 * (number + 1), 40)
        assert ran_at(worker, f"b{number}") - sent < 1 + NOISE_SECONDS
        assert ran_at(worker, f"a{number}") - sent < READ_SECONDS + NOISE_SECONDS
    assert set(runs_of(worker).values()) == {1}
    assert worker.stop() == 0


def test_messages_of_a_fifo_queue_whose_receipt_was_lost_are_had_again_at_once_and_in_order(sqs, send, worker_of):
    sqs.create("a.fifo", VisibilityTimeout=60)
    for number in range(6):
        send("note", "a.fifo", number, MessageGroupId="g")
    sqs.faults({"kind": "reset_after", "action": "ReceiveMessage", "count": 3})
    worker = worker_of(sqs, "-Q", "a.fifo", "-c", "2")
    worker.wait_ready()
    began = time.time()

    worker.diary.wait("run", 6)

    assert time.time() - began < 30
    assert [entry["key"] for entry in worker.diary.entries() if entry["event"] == "run"] == list(range(6))
    assert sqs.stats()["answered_again"] > 0
    sqs.wait_empty("a.fifo")
    assert worker.stop() == 0
