"""What a message costs the core stays what it is, however many queues, children and messages there are.

Costs are counted in calls of functions, Python's and C's, which are the same on every machine.
"""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import replace
from itertools import count

import pytest

from pyqs_celery.outcome import Outcome
from pyqs_celery.wire.envelope import decode_head
from pyqs_celery.worker.core import values as v
from pyqs_celery.worker.core.engine import WorkerCore
from tests.unit.worker.core_harness import QUEUE, body

MESSAGES = 600
TEXT = body()


class Calls:
    """How many functions are called within it."""

    def __init__(self) -> None:
        self.number = 0

    def __enter__(self):
        sys.setprofile(self._on_event)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)

    def _on_event(self, frame, event, argument):
        self.number += event in ("call", "c_call")


class Load:
    """A core with so many queues, of which the first ``busy`` have always more messages, and as many children as told."""

    def __init__(self, queues, *, busy, slots=10, ranks=1, limit=None, batch=10, **config):
        self.now = 1_000_000.0
        self.busy = {f"q{number}" for number in range(busy)}
        self.batch = batch
        policy = v.TaskPolicy()
        self.core = WorkerCore(v.CoreConfig(concurrency=slots, **config), lambda head: policy, decode_head)
        rows = [
            replace(QUEUE, name=f"q{number}", logical=f"q{number}", rank=ranks - 1 - number % ranks, concurrency=limit)
            for number in range(queues)
        ]
        self.core.set_queues(rows, self.now)
        for slot in range(slots):
            self.core.on_slot_ready(slot, self.now)
        self.polls: deque[tuple[str, int, bool]] = deque()
        self.running: deque[int] = deque()
        self.settling: list[int] = []
        self.steps = self.ended = 0
        self.calls = Calls()
        self._numbers = count()
        self._step()

    def _step(self) -> None:
        self.steps += 1
        with self.calls:
            actions = self.core.step(self.now)
            self.core.next_wakeup(self.now)
        for action in actions:
            match action:
                case v.Poll():
                    if action.queue in self.busy:
                        self.polls.append((action.queue, min(action.count, self.batch), action.extra))
                case v.Dispatch():
                    self.running.append(action.slot)
                case v.Ack() | v.Release():
                    self.settling.append(action.tag)

    def turn(self, seconds: float) -> None:
        """A poll that is open is answered, what runs longest ends, and in tens deletions are confirmed."""
        self.now += seconds
        if self.polls:
            queue, number, extra = self.polls.popleft()
            made = [v.Delivery(queue, f"m{next(self._numbers)}", "r", TEXT, self.now) for _ in range(number)]
            with self.calls:
                self.core.on_polled(queue, made, self.now, extra=extra)
            self._step()
        if self.running:
            slot = self.running.popleft()
            with self.calls:
                self.core.on_outcome(slot, Outcome("succeeded", "t"), self.now)
            self.ended += 1
            self._step()
        if len(self.settling) >= 10:
            settled, self.settling = [v.Settled(tag, ok=True) for tag in self.settling], []
            with self.calls:
                self.core.on_settled(settled, self.now)
            self._step()

    def cost(self, seconds: float = 0.001) -> float:
        """Calls for each message, once it runs smoothly."""
        while self.ended < MESSAGES:
            self.turn(seconds)
        before = self.calls.number, self.ended
        while self.ended < 2 * MESSAGES:
            self.turn(seconds)
        return (self.calls.number - before[0]) / (self.ended - before[1])


ROOM = 1.3
"""How much more a message may cost in a large worker than in a small one."""


@pytest.mark.parametrize("slots", [1, 10])
def test_a_message_costs_no_more_beside_199_idle_queues(slots):
    assert Load(200, busy=1, slots=slots).cost() <= ROOM * Load(1, busy=1, slots=slots).cost()


def test_a_message_costs_no_more_where_200_queues_are_busy():
    """Single messages: what many queues have is received in smaller batches, which is not the core's doing."""
    assert Load(200, busy=200, batch=1).cost() <= ROOM * Load(1, busy=1, batch=1).cost()


def test_long_tasks_cost_no_more_where_200_queues_are_busy():
    assert Load(200, busy=200).cost(0.2) <= ROOM * Load(1, busy=1).cost(0.2)


def test_a_message_costs_no_more_where_200_queues_have_limits_of_their_own():
    assert Load(200, busy=200, batch=1, limit=1).cost() <= ROOM * Load(1, busy=1, batch=1, limit=1).cost()


def test_a_message_costs_no_more_in_200_ranks_than_in_ten():
    """In both there are lower queues that must wait."""
    assert Load(200, busy=200, ranks=200, batch=1).cost() <= ROOM * Load(10, busy=10, ranks=10, batch=1).cost()


def test_the_simple_worker_costs_no_more_on_200_queues():
    assert Load(200, busy=200, simple=True).cost() <= ROOM * Load(1, busy=1, simple=True).cost()


def test_a_message_costs_no_more_with_64_children():
    assert Load(1, busy=1, slots=64).cost() <= ROOM * Load(1, busy=1, slots=1).cost()


def test_a_message_costs_no_more_among_a_thousand_in_hand():
    """The loop has slept between any two events, which is when leases are looked at."""
    many, few = Load(1, busy=1, prefetch_multiplier=0), Load(1, busy=1)

    assert many.cost(0.06) <= ROOM * few.cost(0.06)
    assert len(many.core.view.ledger) > 900


def test_a_poll_that_brings_nothing_costs_no_more_beside_199_others():
    def cost(queues):
        load = Load(queues, busy=0)
        before = load.calls.number
        for _ in range(50):
            load.now += 10
            with load.calls:
                load.core.on_polled("q0", [], load.now)
            load._step()
        return (load.calls.number - before) / 50

    assert cost(200) <= ROOM * cost(2)
