"""A world for the core: an SQS of a few lines, children that do as told, and a clock that is turned by hand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from pyqs_celery.broker.delivery import Delivery
from pyqs_celery.outcome import Outcome
from pyqs_celery.wire.envelope import decode_head
from pyqs_celery.worker.core import values as v
from pyqs_celery.worker.core.engine import WorkerCore

QUEUE = v.QueuePolicy("q", "q", lease_seconds=60, visibility_timeout_seconds=30, dead_letter_queue="q-dlq")


def body(task: str = "t", task_id: str = "id", **headers: Any) -> str:
    envelope = {
        "body": "W10=",
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": task, "id": task_id, **headers},
        "properties": {"body_encoding": "base64"},
    }
    return json.dumps(envelope)


class World:
    """Drives a core: ``act`` steps it and sorts its actions; ``polls`` are open polls by queue, ``extra`` those beside them."""

    def __init__(
        self, *queues: v.QueuePolicy, slots: int = 1, policy: v.TaskPolicy | None = None, **config: Any
    ) -> None:
        self.now = 1_000_000.0
        self.policies = {"t": policy or v.TaskPolicy()}
        self.core = WorkerCore(
            v.CoreConfig(concurrency=slots, **config),
            lambda head: self.policies.get(head.task or "", v.TaskPolicy(known=False)),
            decode_head,
        )
        self.polls: dict[str, int] = {}
        self.extra: Counter[str] = Counter()
        self.running: dict[int, v.Dispatch] = {}
        self.settling: list[Any] = []
        self.notes: list[v.Note] = []
        self.kills: list[v.Kill] = []
        self.extends: list[v.Extend] = []
        self.ran: Counter[str] = Counter()
        self.recorded: Counter[str] = Counter()
        self.done = False
        self.watch: Callable[[list[Any]], None] = lambda actions: None
        self._receipts = 0
        self.core.set_queues(queues or (QUEUE,), self.now)
        for slot in range(slots):
            self.core.on_slot_ready(slot, self.now)
        self.act()

    def act(self) -> list[Any]:
        actions = self.core.step(self.now)
        for action in actions:
            match action:
                case v.Poll(extra=True):
                    assert action.queue in self.polls, "a short poll without a long one"
                    assert action.count == 10, "a short poll for less than a batch"
                    self.extra[action.queue] += 1
                case v.Poll():
                    assert action.queue not in self.polls, "two polls of one queue"
                    self.polls[action.queue] = action.count
                case v.Dispatch():
                    assert action.slot not in self.running, "two tasks in one slot"
                    self.running[action.slot] = action
                    (self.recorded if action.fault else self.ran)[action.delivery.message_id] += 1
                case v.Ack() | v.Release() | v.Hop() | v.DeadLetter():
                    self.settling.append(action)
                case v.Note():
                    self.notes.append(action)
                case v.Kill():
                    self.kills.append(action)
                case v.Extend():
                    self.extends.append(action)
                case v.Done():
                    self.done = True
        self.watch(actions)
        return actions

    def delivery(self, message_id: str = "m1", queue: str = "q", text: str | None = None, **facts: Any) -> Delivery:
        self._receipts += 1
        return Delivery(
            queue,
            message_id,
            f"r{self._receipts}",
            body(task_id=message_id) if text is None else text,
            self.now,
            **facts,
        )

    def arrive(self, *deliveries: Delivery, queue: str = "q") -> None:
        del self.polls[queue]
        self.core.on_polled(queue, list(deliveries), self.now)
        self.act()

    def arrive_beside(self, *deliveries: Delivery, queue: str = "q") -> None:
        self.extra[queue] -= 1
        self.core.on_polled(queue, list(deliveries), self.now, extra=True)
        self.act()

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.act()

    def report(self, kind: Any = "succeeded", slot: int = 0, **facts: Any) -> None:
        del self.running[slot]
        self.core.on_outcome(slot, Outcome(kind, "t", **facts), self.now)
        self.act()

    def lose(self, slot: int = 0, *, revive: bool = True) -> None:
        """A child dies, and the manager starts another unless ``revive`` is False."""
        self.running.pop(slot, None)
        self.core.on_slot_lost(slot, "signal 9", self.now)
        if revive:
            self.core.on_slot_ready(slot, self.now)
        self.act()

    def settle(self, *, ok: bool = True, **facts: Any) -> list[Any]:
        """Confirm everything that was asked for, and give it."""
        asked, self.settling = self.settling, []
        self.core.on_settled([v.Settled(each.tag, ok, **facts) for each in asked], self.now)
        self.act()
        return asked

    def extend(self, *, ok: bool = True, lost: bool = False) -> None:
        asked, self.extends = self.extends, []
        self.core.on_extended([v.Extended(tag, ok, lost) for each in asked for tag in each.tags], self.now)
        self.act()

    def events(self) -> list[str]:
        return [note.event for note in self.notes]
