"""What a fleet of workers asks of SQS in a month, and what that costs: ours on its real core, Celery's by its measured habits.

    python -m benchmarks.fleet                                  the table of docs/fleet-costs.rst
    python -m benchmarks.fleet --workers 40 --queues 12 --tasks-per-day 200000 --queues-per-worker 3

Such a fleet is made of cells that are all alike: a few queues and the workers that serve them. One cell is run, on a clock of
its own, and its requests are multiplied. Of a cell with more than ``PAIRS_MOST`` pairs of a worker and a queue, a few workers
with their share of the tasks are run; where queues take turns a smaller cell is run, as a worker then asks the same of 30 queues
as of 1,000. Ours are the worker's core and acker as they are, with an SQS of a few lines below them. Celery's are a model
(``CeleryWorker``) of what was counted of Celery 5.7 with kombu 5.7: at most ten polls open at once, each of ten seconds and a
second's pause after an empty one, and a DeleteMessage for each task.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import Any

from pyqs_celery.broker.client import BatchResult
from pyqs_celery.broker.delivery import Delivery, QueueInfo
from pyqs_celery.broker.limits import WAIT_SECONDS
from pyqs_celery.outcome import Outcome
from pyqs_celery.wire.envelope import decode_head
from pyqs_celery.worker.acker import Acker
from pyqs_celery.worker.core import values as v
from pyqs_celery.worker.core.engine import WorkerCore

DAYS = 30
REQUEST_SECONDS = 0.01
SETTLING_SECONDS = 60.0
"""How long workers run before their requests are counted: their first polls begin all at once."""
PAIRS_MOST = 1000
TIERS = {
    "standard": ((100e9, 0.40), (100e9, 0.30), (float("inf"), 0.24)),
    "fifo": ((100e9, 0.50), (100e9, 0.40), (float("inf"), 0.35)),
}
"""US dollars for a million requests in us-east-1, and up to how many that holds (aws.amazon.com/sqs/pricing, 2026)."""
FREE_REQUESTS = 1e6
START_REQUESTS_FOR_A_QUEUE = 2
"""GetQueueUrl and GetQueueAttributes, for both."""


@dataclass(frozen=True)
class Fleet:
    """``load`` is how busy each hour of the day is, beside the others; ``burst``: an hour's tasks come all at once.

    ``wait_seconds`` is ``wait_time_seconds``; None: the default of each. ``open_polls`` is our ``worker_open_polls``.
    """

    workers: int = 1000
    queues: int = 1000
    queues_per_worker: int = 5
    tasks_per_day: float = 10_000_000
    wait_seconds: int | None = None
    open_polls: int | None = None
    children: int = 4
    task_seconds: float = 0.1
    load: tuple[float, ...] = (1.0,)
    burst: bool = False
    kind: str = "standard"
    restarts_per_day: float = 1.0
    minutes: float = 10.0
    seed: int = 1

    @property
    def share_of_a_worker(self) -> float:
        """Tasks a day that one worker runs."""
        return self.tasks_per_day / self.workers

    @property
    def workers_of_a_queue(self) -> int:
        """How many workers serve each queue, which is how many a cell has."""
        return max(1, round(self.workers * self.queues_per_worker / self.queues))

    @property
    def workers_to_run(self) -> int:
        """How many workers of a cell are run."""
        return max(1, min(self.workers_of_a_queue, PAIRS_MOST // self.queues_per_worker))

    def smaller(self) -> Fleet:
        """A cell of as many workers for each queue, in which every worker still has more queues than Celery has polls."""
        pairs = self.workers_of_a_queue * self.queues_per_worker
        if pairs <= PAIRS_MOST:
            return self
        scale = (PAIRS_MOST / pairs) ** 0.5
        queues = max(CeleryWorker.LANES, int(self.queues_per_worker * scale))
        workers = max(1, round(self.workers_of_a_queue * queues / self.queues_per_worker))
        tasks = self.share_of_a_worker * workers
        return replace(self, queues_per_worker=queues, queues=queues, workers=workers, tasks_per_day=tasks)

    def phases(self) -> list[tuple[float, float]]:
        """(hours a day, tasks an hour of one worker) for each kind of hour."""
        mean = sum(self.load) / len(self.load)
        hours = Counter(self.load)
        return [
            (number * 24 / len(self.load), self.share_of_a_worker / 24 * (weight / mean if mean else 0.0))
            for weight, number in hours.items()
        ]


@dataclass
class Bill:
    """Requests a month of a whole fleet by action, and how long tasks waited for their start (seconds)."""

    requests: Counter[str] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)

    @property
    def total(self) -> float:
        """All requests."""
        return sum(self.requests.values())

    def dollars(self, kind: str) -> float:
        """What they cost."""
        rest, cost = max(0.0, self.total - FREE_REQUESTS), 0.0
        for most, price in TIERS[kind]:
            part = min(rest, most)
            cost, rest = cost + part * price / 1e6, rest - part
        return cost

    def wait(self, share: float) -> float:
        """How long at most this share of tasks waited."""
        ordered = sorted(self.waits)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


class Clock:
    """Things that happen at instants, the soonest first."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, instant: float, happen: Callable[[], None]) -> None:
        """Let something happen then."""
        heapq.heappush(self._heap, (max(self.now, instant), next(self._order), happen))

    def run(self, until: float) -> None:
        """Let everything happen up to an instant."""
        while self._heap and self._heap[0][0] <= until:
            self.now, _, happen = heapq.heappop(self._heap)
            happen()
        self.now = until


@dataclass
class Receive:
    """A receive that waits; it is answered once."""

    count: int
    answer: Callable[[list[float]], None]
    over: bool = False


class Queues:
    """What one worker sees of SQS: messages (when each was sent) and receives that wait for them. Counts requests."""

    def __init__(self, clock: Clock, names: Iterable[str]) -> None:
        self.requests: Counter[str] = Counter()
        self._clock = clock
        self._messages: dict[str, deque[float]] = {name: deque() for name in names}
        self._receives: dict[str, deque[Receive]] = {name: deque() for name in self._messages}

    def send(self, name: str) -> None:
        """A message comes."""
        self._messages[name].append(self._clock.now)
        while self._receives[name]:
            receive = self._receives[name].popleft()
            if not receive.over:
                self._answer(name, receive)
                return

    def receive(self, name: str, most: int, wait_seconds: float, answer: Callable[[list[float]], None]) -> None:
        """A ReceiveMessage; ``answer`` is called once, with what it brings."""
        self.requests["ReceiveMessage"] += 1
        receive = Receive(most, answer)
        if self._messages[name] or not wait_seconds:
            self._answer(name, receive)
            return
        while self._receives[name] and self._receives[name][0].over:
            self._receives[name].popleft()
        self._receives[name].append(receive)
        self._clock.at(self._clock.now + wait_seconds, lambda: None if receive.over else self._answer(name, receive))

    def _answer(self, name: str, receive: Receive) -> None:
        receive.over = True
        waiting = self._messages[name]
        brought = [waiting.popleft() for _ in range(min(receive.count, len(waiting)))]
        self._clock.at(self._clock.now + REQUEST_SECONDS, lambda: receive.answer(brought))


class OurWorker:
    """One worker: the core and the acker, with this clock and these queues."""

    def __init__(self, clock: Clock, queues: Queues, names: list[str], fleet: Fleet) -> None:
        self.waits: list[float] = []
        self._clock = clock
        self._queues = queues
        self._fleet = fleet
        self._body = json.dumps({"headers": {"task": "t", "id": "i"}, "body": "W10=", "properties": {}})
        self._numbers = count(1)
        self._woken_at = float("inf")
        info = {name: QueueInfo(name, name, f"https://sqs.invalid/1/{name}") for name in names}
        policy = v.TaskPolicy()
        self._core = WorkerCore(
            v.CoreConfig(concurrency=fleet.children, open_polls=fleet.open_polls), lambda head: policy, decode_head
        )
        client: Any = self
        threads: Any = self
        self._acker = Acker(client, info.__getitem__, threads, self._core.on_settled, self._core.on_refused)
        self._core.set_queues([v.QueuePolicy(name, name) for name in names], clock.now)
        for slot in range(fleet.children):
            self._core.on_slot_ready(slot, clock.now)
        self._step()

    def delete_batch(self, queue: QueueInfo, entries: list[tuple[str, str]]) -> BatchResult:
        """The acker's client."""
        self._queues.requests["DeleteMessageBatch"] += 1
        return BatchResult(frozenset(number for number, _ in entries), {})

    def ask(self, call: Callable[[], Any], then: Callable[[Any, float], None], **_: Any) -> None:
        """The acker's threads."""
        answer = call()
        self._clock.at(self._clock.now + REQUEST_SECONDS, lambda: self._told(lambda: then(answer, self._clock.now)))

    def _told(self, news: Callable[[], None]) -> None:
        news()
        self._step()

    def _step(self) -> None:
        now = self._clock.now
        for action in self._core.step(now):
            self._do(action, now)
        self._acker.flush(now)
        due = [each for each in (self._core.next_wakeup(now), self._acker.next_due()) if each is not None]
        if due and min(due) < self._woken_at:
            self._woken_at = min(due)
            self._clock.at(self._woken_at, self._wake)

    def _wake(self) -> None:
        if self._clock.now >= self._woken_at:
            self._woken_at = float("inf")
            self._step()

    def _do(self, action: v.Action, now: float) -> None:
        match action:
            case v.Poll(queue, most, extra):
                wait = self._fleet.wait_seconds or WAIT_SECONDS
                self._queues.receive(
                    queue,
                    most,
                    0 if extra else wait,
                    lambda brought: self._told(lambda: self._take(queue, brought, extra)),
                )
            case v.Dispatch():
                self.waits.append(now - float(action.delivery.receipt_handle))
                ended = Outcome("succeeded", "t")
                self._clock.at(
                    now + self._fleet.task_seconds,
                    lambda: self._told(lambda: self._core.on_outcome(action.slot, ended, self._clock.now)),
                )
            case v.Ack() | v.Release():
                self._acker.add(action, now)
            case v.Extend():
                self._queues.requests["ChangeMessageVisibilityBatch"] += 1
                kept = [v.Extended(tag, ok=True) for tag in action.tags]
                self.ask(lambda: kept, self._core.on_extended)

    def _take(self, queue: str, brought: list[float], extra: bool) -> None:
        now = self._clock.now
        made = [Delivery(queue, f"m{next(self._numbers)}", repr(sent), self._body, now) for sent in brought]
        self._core.on_polled(queue, made, now, extra=extra)

    def change_visibility_batch(self, queue: QueueInfo, entries: list[tuple[str, str, int]]) -> BatchResult:
        """The acker's client; what is given back is there again at once."""
        self._queues.requests["ChangeMessageVisibilityBatch"] += 1
        for _ in entries:
            self._queues.send(queue.name)
        return BatchResult(frozenset(number for number, *_ in entries), {})


class CeleryWorker:
    """A Celery 5.7 worker as counted: ten polls at most, which go round the queues; a pause after each that brought nothing.

    kombu's SQS transport: ``wait_time_seconds`` 10, ``polling_interval`` 1, ten parallel clients; its prefetch count is four
    times the number of children; each task costs a DeleteMessage.
    """

    WAIT_SECONDS = 10
    LANES = 10
    PAUSE_SECONDS = 1.0
    PREFETCH = 4

    def __init__(self, clock: Clock, queues: Queues, names: list[str], fleet: Fleet) -> None:
        self.waits: list[float] = []
        self._clock = clock
        self._queues = queues
        self._fleet = fleet
        self._turns = deque(names)
        self._ready: deque[float] = deque()
        self._running = 0
        for _ in range(min(self.LANES, len(names))):
            self._poll()

    def _poll(self) -> None:
        room = self._fleet.children * self.PREFETCH - self._running - len(self._ready)
        if room <= 0:
            self._clock.at(self._clock.now + self.PAUSE_SECONDS, self._poll)
            return
        name = self._turns.popleft()
        wait = self._fleet.wait_seconds or self.WAIT_SECONDS
        self._queues.receive(name, min(10, room), wait, lambda brought: self._polled(name, brought))

    def _polled(self, name: str, brought: list[float]) -> None:
        self._turns.append(name)
        self._ready.extend(brought)
        self._start()
        self._clock.at(self._clock.now + (0.0 if brought else self.PAUSE_SECONDS - REQUEST_SECONDS), self._poll)

    def _start(self) -> None:
        while self._ready and self._running < self._fleet.children:
            self.waits.append(self._clock.now - self._ready.popleft())
            self._running += 1
            self._clock.at(self._clock.now + self._fleet.task_seconds, self._ended)

    def _ended(self) -> None:
        self._queues.requests["DeleteMessage"] += 1
        self._running -= 1
        self._start()


Kind = type[OurWorker] | type[CeleryWorker]
WORKERS: dict[str, Kind] = {"pyqs-celery": OurWorker, "Celery 5.7": CeleryWorker}


def run_cell(
    kind: Kind, fleet: Fleet, tasks_an_hour: float, *, seconds: float | None = None
) -> tuple[dict[str, float], list[float]]:
    """Requests an hour of one worker with so many tasks an hour, as one of its cell, and how long the cell's tasks waited."""
    seconds = fleet.minutes * 60 if seconds is None else seconds
    clock, dice = Clock(), random.Random(fleet.seed)
    names = [f"q{number}" for number in range(fleet.queues_per_worker)]
    queues = Queues(clock, names)
    began = clock.now + SETTLING_SECONDS
    number = tasks_an_hour * seconds / 3600 * fleet.workers_to_run
    instants = [dice.uniform(0, seconds) for _ in range(int(number) + (dice.random() < number % 1))]
    burst = dice.uniform(0, seconds / 2)
    for instant in instants:
        clock.at(began + (burst if fleet.burst else instant), partial(queues.send, dice.choice(names)))
    workers: list[OurWorker | CeleryWorker] = []
    for _ in range(fleet.workers_to_run):
        clock.at(
            clock.now + dice.uniform(0, SETTLING_SECONDS / 2),
            lambda: workers.append(kind(clock, queues, list(names), fleet)),
        )
    clock.run(began)
    before = queues.requests.copy()
    clock.run(began + seconds)
    made = queues.requests - before
    waits = [wait for worker in workers for wait in worker.waits]
    return {action: times * 3600 / seconds / len(workers) for action, times in made.items()}, waits


def month(kind: Kind, fleet: Fleet) -> Bill:
    """The bill of the whole fleet, with its producers' sends."""
    bill = Bill()
    takes_turns = kind is CeleryWorker or fleet.open_polls is not None
    cell = fleet.smaller() if takes_turns else fleet
    for hours, tasks in fleet.phases():
        requests, waits = run_cell(kind, cell, tasks)
        for action, times in requests.items():
            bill.requests[action] += round(times * hours * DAYS * fleet.workers)
        if cell.workers_to_run == cell.workers_of_a_queue:  # else whoever might have taken a message sooner was not run
            bill.waits += waits
    starts = START_REQUESTS_FOR_A_QUEUE * fleet.queues_per_worker * fleet.restarts_per_day
    bill.requests["at the start"] = round(starts * DAYS * fleet.workers)
    bill.requests["SendMessage"] = round(fleet.tasks_per_day * DAYS)
    return bill


def examples(fleet: Fleet) -> list[tuple[str, Fleet]]:
    """The fleets of docs/fleet-costs.rst."""
    night = (*(1.0,) * 10, *(0.0,) * 14)
    everything = replace(fleet, queues_per_worker=fleet.queues, minutes=2.0)
    return [
        ("5 queues a worker", fleet),
        ("5 queues a worker, polls of 20 s", replace(fleet, wait_seconds=20)),
        ("5 queues a worker, idle for 14 hours a day", replace(fleet, load=night)),
        ("5 queues a worker, each hour's tasks at once", replace(fleet, burst=True, minutes=60.0)),
        ("5 queues a worker, no tasks", replace(fleet, tasks_per_day=0)),
        (
            "5 queues a worker, 100 times the tasks, of 10 ms",
            replace(fleet, tasks_per_day=1e9, task_seconds=0.01, minutes=2.0),
        ),
        ("1 queue a worker", replace(fleet, queues_per_worker=1)),
        ("20 queues a worker", replace(fleet, queues_per_worker=20)),
        ("every queue on every worker", everything),
        ("every queue on every worker, polls of 20 s", replace(everything, wait_seconds=20)),
        ("every queue on every worker, 10 polls at once", replace(everything, open_polls=10, minutes=10.0)),
    ]


def table(rows: Iterable[tuple[str, Fleet]]) -> Iterable[str]:
    """A Markdown table of what each costs a month."""
    yield "| fleet | worker | receives, M | deletes, M | all requests, M | USD a month | wait p50, s | wait p99, s |"
    yield "|---|---|--:|--:|--:|--:|--:|--:|"
    for name, fleet in rows:
        for who, kind in WORKERS.items():
            bill = month(kind, fleet)
            receives = bill.requests["ReceiveMessage"]
            deletes = bill.requests["DeleteMessage"] + bill.requests["DeleteMessageBatch"]
            waits = f"{bill.wait(0.5):.2f} | {bill.wait(0.99):.2f}" if bill.waits else "- | -"
            numbers = " | ".join(f"{number / 1e6:,.0f}" for number in (receives, deletes, bill.total))
            yield f"| {name} | {who} | {numbers} | {bill.dollars(fleet.kind):,.0f} | {waits} |"


def main(arguments: list[str] | None = None) -> None:
    """Print the table for one fleet, or for those of the docs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=(__doc__ or "").split("\n\n")[0])
    usual = Fleet()
    for name, text in {
        "workers": "how many there are",
        "queues": "how many there are",
        "queues_per_worker": "how many each worker serves",
        "tasks_per_day": "of the whole fleet",
        "wait_seconds": "how long an empty poll waits (wait_time_seconds)",
        "open_polls": "polls of one of our workers at once (worker_open_polls)",
        "children": "of each worker",
        "task_seconds": "how long a task takes",
        "restarts_per_day": "how often each worker is started",
        "minutes": "how long a worker is run for each kind of hour",
        "seed": "of the dice",
    }.items():
        value = getattr(usual, name)
        shown = f"default {value:g}" if value is not None else "default: the worker's own"
        kind = type(value) if value is not None else int
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=f"{text} ({shown})")
    parser.add_argument(
        "--load", help="how busy each hour of the day is, as 24 numbers with commas (or fewer, longer ones)"
    )
    parser.add_argument("--burst", action="store_true", help="each hour's tasks come all at once")
    parser.add_argument("--fifo", action="store_true", help="FIFO prices")
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value not in (None, False)}
    if "load" in given:
        given["load"] = tuple(float(part) for part in given["load"].split(","))
    if given.pop("fifo", False):
        given["kind"] = "fifo"
    fleet = replace(usual, **given)
    for line in table([("as told", fleet)] if given else examples(fleet)):
        print(line, flush=True)


if __name__ == "__main__":
    main()
