"""Runs a soak: servers, workers, producers and chaos for a time, then calm, a drain, a stop, and the accounting."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyqs_celery.exceptions import WireError
from pyqs_celery.wire.envelope import decode_head
from tests.soak.accounting import Account, Disturbance, Event, Verdict
from tests.soak.chaos import Chaos
from tests.soak.fleet import APP, Member, Pulse, steady, zombies
from tests.soak.plan import LONGEST_COUNTDOWN, QUEUES
from tests.soak.records import lines
from tests.soak.usage import Sample
from tests.support.embedded import ROOT, EmbeddedSqs
from tests.support.proc import parent_of, state_of
from tests.support.servers import RedisServer
from tests.support.waiting import until

TICK_SECONDS = 0.05
LOOK_EVERY_SECONDS = 1.0
BACKLOG_MOST = 6000
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")


@dataclass(frozen=True)
class Wish:
    """What is asked for. ``every`` is the mean time between troubles; ``peer`` an interpreter that has Celery, or None.

    The storm lasts until ``tasks`` are done with, if that takes longer than ``seconds``, but not longer than twice that.
    """

    seconds: float
    rate: float
    seed: int
    folder: Path
    every: float = 4.0
    peer: str | None = None
    peer_rate: float = 5.0
    drain_seconds: float = 420.0
    tasks: int = 0


@dataclass
class Measured:
    """What was seen besides the tasks."""

    samples: list[Sample] = field(default_factory=list)
    stalls: list[Disturbance] = field(default_factory=list)
    zombies: dict[int, str] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)
    stats: dict[str, int] = field(default_factory=dict)
    left_over: dict[str, int] = field(default_factory=dict)
    surprises: list[str] = field(default_factory=list)
    log_bytes: int = 0
    log_lines: int = 0
    drain_seconds: float = 0.0
    sent_seconds: float = 0.0


class Soak:
    """One soak. ``run`` blocks; afterwards ``verdict`` and ``measured`` say how it went."""

    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self.measured = Measured()
        self.verdict = Verdict()
        self.account = Account()
        self.origin = time.time()
        self._lines = wish.folder / "lines"
        self._lines.mkdir(parents=True)
        self._events = wish.folder / "events.jsonl"
        self._pause = wish.folder / "pause"
        self._sqs = EmbeddedSqs()
        self._redis = RedisServer()
        self._producers: list[subprocess.Popen[bytes]] = []
        self._suspects: set[int] = set()
        self._pulse = Pulse()
        self._next_look = self._next_sample = 0.0
        environment = {
            **os.environ,
            **self._sqs.environment,
            "PYQS_CELERY_CONTROL_DIR": str(wish.folder / "control"),
            "SOAK_LINES": str(self._lines),
            "SOAK_RESULTS": self._redis.url(),
        }
        self._environment = environment
        self.steady = steady(wish.folder, environment)
        self.members = [
            Member("ada", "soak_old", wish.folder, environment),
            Member("bob", "soak_new", wish.folder, environment),
        ]
        self.chaos = Chaos(self._sqs, self.members, wish.seed, wish.every)

    # -- the whole ---------------------------------------------------------------------------------

    def run(self) -> None:
        try:
            self._prepare()
            self._storm()
            self._drain()
            self._stop()
            self._add_up()
        finally:
            self._end()

    def _prepare(self) -> None:
        self._sqs.ask("eventlog", on=True)
        for queue in QUEUES:
            if queue.most:
                self._sqs.create_with_dead_letters(queue.name, queue.most, VisibilityTimeout=queue.visibility)
            else:
                self._sqs.create(queue.name, VisibilityTimeout=queue.visibility)
        for member in (self.steady, *self.members):
            member.start()
        until(lambda: self._sqs.is_polled("soak-work-1") and self._sqs.is_polled("soak-kill"), "workers poll", 60)
        self.origin = time.time()
        self._start_producer("traffic", [sys.executable, "-m", "tests.soak.traffic"], self.wish.rate)
        if self.wish.peer:
            self._start_producer("peer", [self.wish.peer, "-m", "tests.soak.peer"], self.wish.peer_rate)

    def _start_producer(self, name: str, command: list[str], rate: float) -> None:
        horizon = min(LONGEST_COUNTDOWN, max(2.0, self.wish.seconds / 2))
        words = [f"--rate={rate}", f"--seed={self.wish.seed}", f"--horizon={horizon}"]
        words += [f"--lines={self._lines}", f"--pause={self._pause}"]
        with (self.wish.folder / f"{name}.log").open("wb") as log:
            producer = subprocess.Popen(
                [*command, *words],
                env={**self._environment, "PYTHONPATH": f"{ROOT}{os.pathsep}{APP}"},
                cwd=self.wish.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._producers.append(producer)

    def _storm(self) -> None:
        begun = time.time()
        while not self._is_enough(time.time() - begun):
            self.chaos.step()
            self._look()
            for producer in self._producers:
                if producer.poll() is not None:
                    raise RuntimeError(
                        f"a producer ended with {producer.returncode}; see its log in {self.wish.folder}"
                    )

    def _is_enough(self, seconds: float) -> bool:
        done = self.measured.samples[-1].done if self.measured.samples else 0
        return seconds >= self.wish.seconds and (done >= self.wish.tasks * 1.1 or seconds >= 2 * self.wish.seconds)

    def _look(self) -> None:
        """What is done all the time: start anew who has ended, fetch SQS's log, watch and measure."""
        time.sleep(TICK_SECONDS)
        gap = self._pulse.beat()
        if gap is not None:
            self.measured.stalls.append(Disturbance("stall", *gap))
        now = time.time()
        for member in self.members:
            member.poll()
        self._check_steady()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_EVERY_SECONDS
        self._fetch_events()
        self._watch_zombies()
        if sum(self._waiting().values()) > BACKLOG_MOST:
            self._pause.touch()
        else:
            self._pause.unlink(missing_ok=True)
        if now >= self._next_sample:
            self._next_sample = now + max(1.0, min(10.0, self.wish.seconds / 60))
            done = self._sqs.ask("counters")["stats"].get("messages_deleted", 0)
            self.measured.samples.append(Sample(now - self.origin, done, tuple(self.steady.usages())))

    def _check_steady(self) -> None:
        if self.steady.poll():
            self.measured.surprises.append("the steady worker had to be started again")

    def _fetch_events(self) -> None:
        with self._events.open("a") as file:
            for event in self._sqs.ask("eventlog", take=True)["events"]:
                file.write(json.dumps(event, separators=(",", ":")) + "\n")

    def _watch_zombies(self) -> None:
        """A zombie is one that is there at two looks, though a manager of ours is its parent and free to wait for it."""
        managers = [session for member in (self.steady, *self.members) for session in member.sessions]
        seen = {pid for pid in zombies(managers) if state_of(parent_of(pid)) not in ("T", "Z", "")}
        for pid in seen & self._suspects:
            self.measured.zombies[pid] = (
                f"at {time.time() - self.origin:.1f}, of {parent_of(pid)} ({state_of(parent_of(pid))})"
            )
        self._suspects = seen
        for member in (self.steady, *self.members):
            member.family()

    def _waiting(self) -> dict[str, int]:
        """Messages in any state, by queue, dead-letter queues left out."""
        return {
            name: state["visible"] + state["inflight"] + state["delayed"]
            for name, state in self._sqs.ask("state").items()
            if not name.removesuffix(".fifo").endswith("-dlq")
        }

    # -- the end -----------------------------------------------------------------------------------

    def _drain(self) -> None:
        """No more sends and no more trouble: everything must be done with within ``drain_seconds``."""
        for producer in self._producers:
            producer.terminate()
        for producer in self._producers:
            producer.wait(60)
        self.measured.sent_seconds = time.time() - self.origin
        self.chaos.calm()
        for member in self.members:
            member.poll()
            if member.application != "soak_both" and not member.is_ending:
                member.signal(signal.SIGTERM)
            member.application = "soak_both"
        begun = time.time()
        while any(self._waiting().values()) and time.time() < begun + self.wish.drain_seconds:
            self._look()
        self.measured.drain_seconds = time.time() - begun
        self.measured.left_over = {name: count for name, count in self._waiting().items() if count}

    def _stop(self) -> None:
        everybody = (self.steady, *self.members)
        for member in everybody:
            member.stop()
        until(lambda: not any(member.left() for member in everybody), "no process of a worker is left", 30)
        self._fetch_events()
        counters = self._sqs.ask("counters")
        self.measured.requests, self.measured.stats = counters["actions"], counters["stats"]

    def _end(self) -> None:
        for producer in self._producers:
            if producer.poll() is None:
                producer.kill()
                producer.wait(10)
        for member in (self.steady, *self.members):
            if member.process is not None:
                member.end()
        self._sqs.close()
        self._redis.close()

    # -- adding up ---------------------------------------------------------------------------------

    def _add_up(self) -> None:
        for words in lines(self._lines):
            self.account.take_line(words)
        self.account.take_disturbances([*self.chaos.done, *self.measured.stalls])
        self.account.take_letters(self._letters())
        self.account.take_events(self._recorded_events())
        self.verdict = self.account.verdict()
        for member in (self.steady, *self.members):
            self.measured.surprises += member.surprises
            log = (self.wish.folder / f"{member.name}.log").read_bytes()
            self.measured.log_bytes += len(log)
            self.measured.log_lines += log.count(b"\n")
        (self.wish.folder / "disturbances.json").write_text(json.dumps([vars(each) for each in self.chaos.done]))

    def _letters(self) -> dict[str, list[str]]:
        queues = [name for name in self._sqs.ask("state") if name.removesuffix(".fifo").endswith("-dlq")]
        return {queue: [_task_of(body) for body in self._sqs.bodies(queue)] for queue in queues}

    def _recorded_events(self) -> Iterator[Event]:
        with self._events.open() as file:
            for line in file:
                at, event, queue, message, detail = json.loads(line)
                yield Event(at, event, queue, message or "", str(detail if detail is not None else ""))

    @property
    def failures(self) -> dict[str, Any]:
        """Everything that must not be; empty when the soak has passed."""
        measured = self.measured
        found: dict[str, Any] = dict(self.verdict.faults_found)
        if measured.left_over:
            found["left in queues"] = measured.left_over
        if measured.surprises:
            found["surprises"] = measured.surprises
        if measured.zombies:
            found["zombies"] = [f"{pid} {detail}" for pid, detail in measured.zombies.items()]
        return found


def _task_of(body: str) -> str:
    try:
        found = decode_head(body).id
    except WireError:
        found = None
    if found is None:
        match = _UUID.search(body)
        found = match.group() if match else body[:60]
    return found
