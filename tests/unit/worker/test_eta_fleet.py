"""ETAs minutes, hours and days ahead: three workers on one SQS, restarted at random, on a clock that is turned by hand."""

from __future__ import annotations

import os
import random
from datetime import datetime, timezone
from typing import Any

import pytest

from pyqs_celery.broker.client import SqsClient
from pyqs_celery.broker.config import broker_config
from pyqs_celery.broker.delivery import Outgoing, QueueInfo
from pyqs_celery.local.client import LocalClient
from pyqs_celery.outcome import Outcome
from pyqs_celery.wire.envelope import decode_head
from pyqs_celery.worker.core import values as v
from pyqs_celery.worker.core.engine import WorkerCore
from tests.unit.worker.core_harness import body

POLICY = v.QueuePolicy("q", "q", lease_seconds=30, visibility_timeout_seconds=30, dead_letter_queue="q-dlq")
POLL_SECONDS = 20.0
START = 1_800_000_000.0
TASKS = 1_000 if os.environ.get("PYQS_CELERY_LONG") else 10


class Fleet:
    """The clock, the SQS, and the workers that are alive."""

    def __init__(self, workers: int, seed: int) -> None:
        self.now = START
        self.dice = random.Random(seed)
        self.boto = LocalClient(clock=lambda: self.now)
        self.client = SqsClient(broker_config("sqs://k:s@", {}, {}), boto_client=self.boto)
        self.url = self.client.create_queue("q", {"VisibilityTimeout": "30"})
        self.queue = QueueInfo("q", self.url, "q")
        self.starts: dict[str, list[float]] = {}
        self.hops: dict[str, int] = {}
        self.workers = [SimulatedWorker(self) for _ in range(workers)]
        self.leaving: list[SimulatedWorker] = []

    def send(self, task_id: str, eta: float) -> None:
        iso = datetime.fromtimestamp(eta, timezone.utc).isoformat()
        delay = max(0, min(900, int(eta - self.now)))
        self.client.send(self.url, Outgoing("q", body(task_id=task_id, eta=iso), delay_seconds=delay))

    def count(self, name: str) -> int:
        return int(self.client.queue_attributes(self.url, "q")[f"ApproximateNumberOfMessages{name}"])

    def restart_one(self) -> None:
        """One worker stops as SIGTERM has it stop, and another begins."""
        index = self.dice.randrange(len(self.workers))
        old = self.workers[index]
        old.core.on_stop("warm", self.now)
        self.leaving.append(old)
        self.workers[index] = SimulatedWorker(self)

    def turn(self) -> None:
        """Let everybody act, then turn the clock to the next thing that happens."""
        for worker in (*self.workers, *self.leaving):
            worker.act()
        self.leaving = [worker for worker in self.leaving if not worker.done]
        instants = [worker.wakeup() for worker in (*self.workers, *self.leaving)]
        visible = self.boto.store.named("q").next_visible()
        if visible is not None and visible > self.now:
            instants.append(visible)
        self.now = max(self.now + 0.001, min(instants))


class SimulatedWorker:
    """The real core; everything around it answers at once."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.core = WorkerCore(
            v.CoreConfig(concurrency=2), lambda head: v.TaskPolicy(known=head.task == "t"), decode_head
        )
        self.poll_until: float | None = None
        self.wanted = 0
        self.done = False
        self.core.set_queues([POLICY], fleet.now)
        for slot in range(2):
            self.core.on_slot_ready(slot, fleet.now)

    def wakeup(self) -> float:
        wakeup = self.core.next_wakeup(self.fleet.now)
        instants = [instant for instant in (wakeup, self.poll_until) if instant is not None]
        return min(instants, default=self.fleet.now + POLL_SECONDS)

    def act(self) -> None:
        now = self.fleet.now
        while True:
            self.answer_poll(now)
            actions = self.core.step(now)
            if not actions:
                return
            for action in actions:
                self.do(action, now)

    def answer_poll(self, now: float) -> None:
        if self.poll_until is None:
            return
        got = self.fleet.client.receive(
            self.fleet.queue, count=self.wanted, wait_seconds=0, visibility_seconds=30, clock=lambda: now
        )
        if got or now >= self.poll_until or self.core.stopping:
            self.poll_until = None
            self.core.on_polled("q", got, now)

    def do(self, action: Any, now: float) -> None:
        client, queue = self.fleet.client, self.fleet.queue
        match action:
            case v.Poll():
                self.poll_until, self.wanted = now + POLL_SECONDS, min(action.count, 10)
            case v.Dispatch():
                self.fleet.starts.setdefault(str(action.head.id), []).append(now)
                self.core.on_outcome(action.slot, Outcome("succeeded", "t"), now)
            case v.Ack():
                client.delete_batch(queue, [("0", action.delivery.receipt_handle)])
                self.core.on_settled([v.Settled(action.tag, True)], now)
            case v.Release():
                client.change_visibility_batch(queue, [("0", action.delivery.receipt_handle, action.delay_seconds)])
                self.core.on_settled([v.Settled(action.tag, True)], now)
            case v.Hop():
                task_id = str(decode_head(action.delivery.body).id)
                self.fleet.hops[task_id] = self.fleet.hops.get(task_id, 0) + 1
                client.send(queue.url, Outgoing("q", action.delivery.body, delay_seconds=action.delay_seconds))
                client.delete_batch(queue, [("0", action.delivery.receipt_handle)])
                self.core.on_settled([v.Settled(action.tag, True)], now)
            case v.Extend():
                entries = [
                    (str(index), each.receipt_handle, action.seconds) for index, each in enumerate(action.deliveries)
                ]
                client.change_visibility_batch(queue, entries)
                self.core.on_extended([v.Extended(tag, True) for tag in action.tags], now)
            case v.Done():
                self.done = True


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("ahead", "restarts"), [(20 * 60, 10), (3 * 3600, 30), (3 * 86_400, 100)], ids=["20 minutes", "3 hours", "3 days"]
)
def test_each_runs_once_on_time_and_nothing_is_in_flight_meanwhile(ahead, restarts):
    # given some tasks that far ahead, and three workers
    fleet = Fleet(workers=3, seed=ahead)
    etas = {f"i{number}": START + ahead + number * 0.37 for number in range(TASKS)}
    for task_id, eta in etas.items():
        fleet.send(task_id, eta)

    # when workers are restarted at random until all is due and a minute more
    moments = sorted(START + fleet.dice.uniform(0, ahead + 5) for _ in range(restarts))
    waiting_in_flight = 0
    while fleet.now < max(etas.values()) + 60:
        while moments and moments[0] <= fleet.now:
            moments.pop(0)
            fleet.restart_one()
        fleet.turn()
        if fleet.now < START + ahead - 5:
            waiting_in_flight = max(waiting_in_flight, fleet.count("NotVisible"))

    # then each ran once, never early, and no later than two seconds and one a hop
    assert {task_id: len(starts) for task_id, starts in fleet.starts.items()} == dict.fromkeys(etas, 1)
    for task_id, [start] in fleet.starts.items():
        late = start - etas[task_id]
        assert 0 <= late <= 2 + fleet.hops.get(task_id, 0), (task_id, late)
    assert waiting_in_flight == 0
    assert fleet.count("") == fleet.count("Delayed") == 0
