"""Every signal, on every process of a worker, while there is a message in every state that a message can have.

A cell is a signal and its victim. Each cell has a worker of its own, whose queues hold one state each, so that one blow
meets them all. Whatever happened: nothing is lost, nothing stays in flight, no process is left, and what ran again did so for
a reason that the table below gives.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

from tests.support.waiting import until
from tests.support.worker import Worker

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]
LEASE_SECONDS = 3
PATIENCE = 90
VICTIMS = ("child", "consumer", "manager", "group")
STATES = ("unread", "polled", "prefetched", "deferred", "running", "settling", "retried", "moving", "moved")

HELD = {
    "unread": ("ReceiveMessage", ""),
    "settling": ("DeleteMessageBatch", ""),
    "retried": ("DeleteMessageBatch", ""),
    "moving": ("SendMessageBatch", "-dlq"),
    "moved": ("DeleteMessageBatch", ""),
}
"""Which call SQS refuses until the blow has fallen, and on which queue: this is what keeps a message in its state."""

RUNNING = frozenset({"running", "ahead"})
STARTED = RUNNING | {"settling", "retried", "moving", "moved"}


@dataclass(frozen=True)
class Expected:
    """What a cell does. ``code``: the worker ends with it, None: it goes on.

    ``again``: what must run once more, ``maybe``: what may. ``says``: what the log says of it.
    """

    code: int | None = None
    again: frozenset[str] = frozenset()
    maybe: frozenset[str] = frozenset()
    says: str = " ready."


NOTHING = Expected()
WARM, COLD = "Warm shutdown (MainProcess)", "Cold shutdown (MainProcess)"
TABLE: dict[str, dict[str, Expected]] = {
    "KILL": {
        "child": Expected(again=frozenset({"running"}), says="signal 9 (SIGKILL)"),
        "consumer": Expected(again=RUNNING, maybe=STARTED | {"prefetched", "deferred"}, says="a new one is started"),
        "manager": Expected(code=-9),
        "group": Expected(code=-9, again=RUNNING, maybe=STARTED | {"deferred"}),
    },
    "TERM": {"manager": Expected(code=0, says=WARM), "group": Expected(code=0, says=WARM)},
    "INT": {"manager": Expected(code=1, says=WARM), "group": Expected(code=1, says=WARM)},
    "QUIT": {
        "manager": Expected(code=0, again=RUNNING, says=COLD),
        "group": Expected(code=0, again=RUNNING, says=COLD),
    },
    "HUP": {"manager": Expected(says="Restarting celery worker"), "group": Expected(says="Restarting celery worker")},
    # another worker has taken everything when it goes on
    "STOP": {
        "consumer": Expected(again=STARTED, maybe=frozenset({"deferred"}), says="its lease was lost"),
        "group": Expected(again=STARTED, maybe=frozenset({"deferred"}), says="its lease was lost"),
    },
}


class Faults:
    """The rules of all cells that run at once."""

    def __init__(self, sqs: Any) -> None:
        self._sqs = sqs
        self._lock = Lock()
        self._rules: dict[str, list[dict[str, Any]]] = {}

    def set(self, cell: str, rules: list[dict[str, Any]]) -> None:
        with self._lock:
            self._rules[cell] = rules
            self._sqs.faults(*(rule for each in self._rules.values() for rule in each))


class Cell:
    """One worker, the states of its messages, and the blow."""

    def __init__(self, sqs: Any, send: Any, faults: Faults, folder: Path, signal_name: str, victim: str) -> None:
        self.name = f"{signal_name.lower()}-{victim}"
        self.sqs, self.send, self.faults = sqs, send, faults
        self.folder = folder / self.name
        self.signum = signal.Signals[f"SIG{signal_name}"]
        self.victim = victim
        self.expected = TABLE[signal_name].get(victim, NOTHING)
        self.queues = {state: f"{self.name}-{state}" for state in STATES}
        self.workers: list[Worker] = []

    # -- given -------------------------------------------------------------------------------------

    def start(self) -> Worker:
        limits = {self.queues["prefetched"]: 1}
        conf = json.dumps({"worker_queue_concurrency": limits, "broker_transport_options": {"wait_time_seconds": 1}})
        arguments = ("-c", "3", "--prefetch-multiplier", "20", f"worker_lease_seconds={LEASE_SECONDS}")
        worker = Worker(self.sqs, self.folder, "-Q", ",".join(self.queues.values()), *arguments, PROJ_CONF=conf)
        self.workers.append(worker)
        return worker

    def fill(self) -> Worker:
        for queue in self.queues.values():
            self.sqs.create(queue, VisibilityTimeout=30)
            self.sqs.create(f"{queue}-dlq")
        self.faults.set(
            self.name,
            [
                {"kind": "503", "action": action, "queue": self.queues[state] + suffix}
                for state, (action, suffix) in HELD.items()
            ],
        )
        self.gate = self.folder / "gate"
        self.task("note", "unread")
        worker = self.start()
        self.task("wait_for", "running", str(self.gate))
        self.task("wait_for", "prefetched", str(self.gate), key="ahead")
        worker.diary.wait("start", 2, PATIENCE)
        self.task("note", "prefetched")
        self.task("note", "settling")
        self.task("retry_once", "retried")
        self.task("reject", "moving", False)
        self.task("reject", "moved", False)
        until(lambda: self.are_held(worker), f"{self.name}: every state is there", PATIENCE)
        soon = datetime.now(timezone.utc) + timedelta(seconds=1.8)
        self.task("note", "deferred", eta=soon, DelaySeconds=0)
        until(lambda: self.in_flight("deferred") == 1, f"{self.name}: the ETA is held", PATIENCE)
        self.sqs.wait_polled(self.queues["polled"], PATIENCE)
        return worker

    def task(self, task: str, state: str, *args: Any, key: str = "", **options: Any) -> None:
        self.send(task, self.queues[state], key or state, *args, **options)

    def in_flight(self, state: str) -> int:
        return int(self.sqs.state(self.queues[state])["inflight"])

    def are_held(self, worker: Worker) -> bool:
        runs = worker.diary.count("run")
        return (
            runs["retried"] == 2
            and all(runs[state] == 1 for state in ("settling", "moving", "moved"))
            and self.in_flight("prefetched") == self.in_flight("retried") == 2
            and all(self.in_flight(state) == 1 for state in ("running", "settling", "moving", "moved"))
            and self.sqs.state(f"{self.queues['moved']}-dlq")["visible"] == 1
            and self.sqs.state(self.queues["unread"])["visible"] == 1
        )

    # -- when --------------------------------------------------------------------------------------

    def strike(self, worker: Worker) -> None:
        if self.victim == "group":
            os.killpg(worker.session, self.signum)
        else:
            os.kill(self.pid(worker), self.signum)

    def pid(self, worker: Worker) -> int:
        if self.victim == "child":
            entries = worker.diary.entries()
            return next(each["pid"] for each in entries if (each["event"], each["key"]) == ("start", "running"))
        return worker.process.pid if self.victim == "manager" else self.consumer

    def go_on(self, worker: Worker) -> None:
        """The world is well again; ``polled`` gets its message only now, after the blow."""
        self.faults.set(self.name, [])
        self.gate.touch()
        self.task("note", "polled")

    def freeze(self, worker: Worker) -> None:
        """Beyond the lease. Who holds leases loses them, to another worker that runs everything meanwhile."""
        began = time.monotonic()
        frozen = self.victim in ("consumer", "group")
        if frozen:
            until(lambda: not self.in_flight("running"), f"{self.name}: the leases have ended", PATIENCE)
        else:
            until(lambda: time.monotonic() - began > 1.5 * LEASE_SECONDS, "a lease and a half has passed")
        self.go_on(worker)
        if frozen:
            self.start()
            self.wait_empty()
        target = -worker.session if self.victim == "group" else self.pid(worker)
        (os.kill if target > 0 else lambda pid, signum: os.killpg(-pid, signum))(target, signal.SIGCONT)

    def run(self) -> None:
        try:
            worker = self.fill()
            self.consumer = worker.family()[0]
            self.strike(worker)
            if self.signum == signal.SIGSTOP:
                self.freeze(worker)
            else:
                if self.expected.code is not None and self.expected.code >= 0:
                    worker.wait_logged(self.expected.says, PATIENCE)
                self.go_on(worker)
            if self.expected.code is not None:
                assert worker.wait(PATIENCE) == self.expected.code, f"{self.name}:\n{worker.log}"
                worker.check_nobody_left()
                self.check_nothing_held()
                self.start()
            self.check(worker)
        except AssertionError as exc:
            logs = "\n".join(each.log for each in self.workers)
            raise AssertionError(f"{self.name}: {exc}\n{logs}") from exc
        finally:
            self.faults.set(self.name, [])
            for each in self.workers:
                each.kill_all()

    # -- then --------------------------------------------------------------------------------------

    def check_nothing_held(self) -> None:
        """A worker that stopped by itself has given everything back; of one that was killed, leases are left."""
        if self.expected.code is not None and self.expected.code >= 0:
            assert {state: self.in_flight(state) for state in STATES} == dict.fromkeys(STATES, 0), "still in flight"

    def wait_empty(self) -> None:
        until(
            lambda: all(self.sqs.left(queue) == 0 for queue in self.queues.values()), f"{self.name}: all done", PATIENCE
        )

    def check(self, worker: Worker) -> None:
        diary = worker.diary
        wanted = {"ahead", *STATES}
        until(lambda: {*diary.count("run"), *diary.count("end")} == wanted, f"{self.name}: each has run", PATIENCE)
        self.wait_empty()
        runs = diary.count("run") + diary.count("start")
        least = Counter(dict.fromkeys(wanted, 1)) + Counter(["retried"]) + Counter(self.expected.again)
        most = least + Counter(self.expected.maybe - self.expected.again)
        most += Counter({"retried": 2 if "retried" in self.expected.again | self.expected.maybe else 0})
        wrong = {key: runs[key] for key in wanted if not least[key] <= runs[key] <= most[key]}
        assert not wrong, f"runs {wrong}, expected {least} to {most}"
        assert diary.count("end")["running"] >= 1
        for state in ("moving", "moved"):
            letters = self.sqs.state(f"{self.queues[state]}-dlq")["visible"]
            assert 1 <= letters <= most[state], f"{state}: {letters} dead letters"
        if self.expected.code is None:
            worker.wait_logged(self.expected.says, PATIENCE)
            if self.signum == signal.SIGSTOP and self.expected.again:
                worker.wait_logged("will be seen again: its lease was lost while it ran", PATIENCE)
            assert worker.process.poll() is None, "the worker has ended"
        for each in self.workers:
            if each.process.poll() is None:
                each.wait_family(4)
                assert each.stop() == 0
        self.check_nothing_held()


@pytest.mark.parametrize("signal_name", TABLE)
def test_a_signal_loses_nothing_whoever_gets_it_and_whatever_state_a_message_is_in(sqs, send, tmp_path, signal_name):
    faults = Faults(sqs)
    cells = [Cell(sqs, send, faults, tmp_path, signal_name, victim) for victim in VICTIMS]

    with ThreadPoolExecutor(len(cells)) as threads:
        ends = [threads.submit(cell.run) for cell in cells]

    failures = [exc for end in ends if (exc := end.exception()) is not None]
    assert not failures, "\n\n".join(map(str, failures))
