"""Whatever happens in whatever order, some things are always true of the core."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from pyqs_celery.outcome import Outcome
from pyqs_celery.worker.core import values as v
from pyqs_celery.worker.core.renewals import NAP_SECONDS
from tests.unit.worker.core_harness import QUEUE, World, body

FIFO = replace(QUEUE, name="o.fifo", logical="o.fifo", fifo=True, dead_letter_queue="o-dlq.fifo")
OUTCOMES = "succeeded failed retried ignored rejected unknown undecodable expired revoked".split()
EVENTS = 4_000


class Storm:
    """A world in which anything may happen next, and the checks that hold after each step."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        early = self.dice.random() < 0.3
        ranks = self.dice.choice([(0, 0), (0, 0), (5, 1), (1, 5)])
        self.first = "o.fifo" if ranks == (1, 5) else "q" if ranks == (5, 1) else None
        self.world = World(
            replace(QUEUE, rank=ranks[0], concurrency=self.dice.choice([None, None, 1, 2])),
            replace(FIFO, rank=ranks[1], concurrency=self.dice.choice([None, None, 2])),
            slots=self.dice.randint(1, 5),
            policy=v.TaskPolicy(
                acks_late=not early,
                hard_time_limit=self.dice.choice([None, 30]),
                reject_on_worker_lost=self.dice.random() < 0.8,
            ),
            prefetch_multiplier=self.dice.choice([None, None, 1, 4]),
            ack_before_run_waits=self.dice.random() < 0.5,
            keeps_results=True,
            open_polls=None if self.first else self.dice.choice([None, None, 1]),
        )
        self.early = early
        self.trouble_on_fifo = self.dice.random() < 0.5
        self.sent = 0
        self.reported: set[int] = set()  # tags of which a child has said something, or which were lost
        self.seen: set[tuple[int, int]] = set()  # slot and receipt of what the last step had running
        self.recorded: set[int] = set()  # tags whose fault a child was given
        self.dead_slots: set[int] = set()
        self.leases: dict[str, float] = {}  # receipt: until when SQS surely holds it for us
        self.asked: dict[int, float] = {}  # renewals, by their identity: when they were asked for
        self.told_lost: set[str] = set()
        self.stopped = False
        self.world.watch = self.watch

    def step(self) -> None:
        happenings = [self.answer_poll, self.report, self.lose_child, self.settle, self.extend, self.pass_time]
        self.dice.choices([*happenings, self.revoke, self.freeze], weights=[6, 8, 1, 6, 4, 3, 0.3, 0.5])[0]()
        if self.dice.random() < 0.7:
            self.revive()

    def answer_poll(self) -> None:
        if not self.world.polls:
            return
        queue = self.dice.choice(sorted(self.world.polls))
        extra = bool(self.world.extra[queue]) and self.dice.random() < 0.5
        most = 10 if extra else self.world.polls[queue]
        count = most if self.dice.random() < 0.2 else self.dice.randint(0, most)
        arrive = self.world.arrive_beside if extra else self.world.arrive
        arrive(*(self.message(queue) for _ in range(count)), queue=queue)

    def message(self, queue: str) -> Any:
        repeat = self.sent and self.dice.random() < 0.05
        if not repeat:
            self.sent += 1
        number = self.dice.randint(max(0, self.sent - 10), self.sent) if repeat else self.sent
        good, late = body(task_id=f"m{number}"), body(task_id=f"m{number}", expires="2001-01-01T00:00:00+00:00")
        text = self.dice.choices([good, "garbage", body("not.known", f"m{number}"), late], [20, 1, 1, 1])[0]
        group = f"g{number % 3}" if queue == "o.fifo" else None
        often = queue == "q" or self.trouble_on_fifo  # of a queue with trouble only single messages are received
        made = self.world.delivery(
            f"{queue}-m{number}", queue, text, group_id=group, receive_count=self.dice.randint(1, 6) if often else 1
        )
        self.leases[made.receipt_handle] = self.world.now + QUEUE.lease_seconds
        return made

    def report(self) -> None:
        if not self.world.running:
            return
        slot = self.dice.choice(sorted(self.world.running))
        dispatch = self.world.running.pop(slot)
        self.reported.add(dispatch.tag)
        kind = self.dice.choices(OUTCOMES, weights=[20, 5, 2, 1, 1, 1, 1, 1, 1])[0]
        self.world.core.on_outcome(slot, Outcome(kind, "t"), self.world.now)  # type: ignore[arg-type]
        if any(kill.slot == slot for kill in self.world.kills):
            self.dead_slots.add(slot)
        self.act()

    def lose_child(self) -> None:
        slots = sorted(set(range(self.world.core.config.concurrency)) - self.dead_slots)
        if not slots:
            return
        slot = self.dice.choice(slots)
        dispatch = self.world.running.pop(slot, None)
        if dispatch is not None:
            self.reported.add(dispatch.tag)
        self.dead_slots.add(slot)
        self.world.core.on_slot_lost(slot, "signal 9", self.world.now)
        self.act()

    def revoke(self) -> None:
        running = self.world.core.running_ids()
        if running:
            self.world.core.on_revoked({self.dice.choice(running): 15}, self.world.now)
            self.act()

    def settle(self) -> None:
        ok = self.dice.random() < 0.9
        asked, self.world.settling = self.world.settling, []
        for action in asked:
            self.check_settlement(action)
        self.world.core.on_settled([v.Settled(each.tag, ok) for each in asked], self.world.now)
        self.act()

    def extend(self) -> None:
        dice = self.dice.random()
        if dice > 0.97:
            self.world.extends.clear()  # never answered
            return
        for asked in self.world.extends:
            for delivery in asked.deliveries:
                if dice < 0.85:
                    self.leases[delivery.receipt_handle] = self.asked[id(asked)] + asked.seconds
        self.world.extend(ok=dice < 0.85, lost=dice > 0.92)

    def pass_time(self) -> None:
        self.world.later(self.dice.choice([0.01, 1, 5, 15]))
        for kill in self.world.kills:
            dispatch = self.world.running.pop(kill.slot, None)
            if dispatch is not None:
                self.reported.add(dispatch.tag)
            self.dead_slots.add(kill.slot)
            self.world.core.on_slot_lost(kill.slot, "signal 9", self.world.now)
        self.world.kills.clear()
        self.act()

    def freeze(self) -> None:
        """The process is stopped, beyond the leases or not; what it hears first when it goes on is anything."""
        self.world.now += self.dice.choice([20, 50, 61, 300])
        self.world.core.on_awake(self.world.now)
        self.dice.choice([self.answer_poll, self.report, self.lose_child, self.settle, self.extend])()

    def revive(self) -> None:
        for slot in sorted(self.dead_slots):
            self.world.core.on_slot_ready(slot, self.world.now)
        self.dead_slots.clear()
        self.act()

    def act(self) -> None:
        self.world.act()
        self.check()

    # -- always true -------------------------------------------------------------------------------

    def watch(self, actions: list[Any]) -> None:
        self.check_leases(actions)
        assert len(self.world.polls) <= (self.world.core.config.open_polls or 2), "more polls than are allowed"
        begun = {action.delivery.queue for action in actions if isinstance(action, v.Dispatch) and not action.fault}
        at_once = not self.world.core.config.ack_before_run_waits  # else a slot was taken some time before
        if self.first is not None and at_once and begun - {self.first}:
            waits = self.world.core._ready.count(self.first) and not self.world.core._ready.is_blocked(self.first)
            assert not waits, "something of a lower rank was begun before what was ready of a higher"

    def check_leases(self, actions: list[Any]) -> None:
        """Nothing is started, given back or moved by a receipt whose lease has ended, and nothing deleted without a word."""
        now = self.world.now
        for action in actions:
            if isinstance(action, v.Extend):
                self.asked[id(action)] = now
            elif isinstance(action, v.Note) and action.event == "lease_lost":
                self.told_lost.add(action.delivery.receipt_handle)
            elif isinstance(action, (v.Dispatch, v.Ack, v.Release, v.Hop, v.DeadLetter)) and not self.early:
                held = self.leases[action.delivery.receipt_handle] > now - NAP_SECONDS
                if isinstance(action, v.Ack):
                    assert held or action.delivery.receipt_handle in self.told_lost, "deleted by an old receipt, unsaid"
                elif not isinstance(action, v.Dispatch) or action.fault is None:
                    assert held, f"{type(action).__name__} by an old receipt"

    def check_settlement(self, action: Any) -> None:
        """A message is deleted only after its outcome, unless early acks were asked for or it was never to run."""
        if isinstance(action, v.Ack) and not self.early:
            assert action.tag in self.reported, "deleted before its outcome"
        if not (isinstance(action, v.Ack) and self.early):
            recording = [each.tag for each in self.world.running.values() if each.fault]
            assert action.tag not in recording, "settled before its death was recorded"

    def check(self) -> None:
        self.check_recordings()
        running = [dispatch.delivery.message_id for dispatch in self.world.running.values()]
        assert len(running) == len(set(running)), "a message runs beside itself"
        groups = [
            dispatch.delivery.group_id
            for dispatch in self.world.running.values()
            if dispatch.delivery.queue == "o.fifo"
        ]
        assert len(groups) == len(set(groups)), "two of one FIFO group run at once"
        table = self.world.core.snapshot()
        assert all(row["in_hand"] >= 0 and row["running"] >= 0 for row in table["queues"].values())
        assert sum(table["states"].values()) <= self.world.core.config.max_held + 20
        for queue, count in self.world.polls.items():
            assert 1 <= count <= 10, queue
        for queue, count in self.world.extra.items():
            assert 0 <= count <= 3, queue
            assert not count or not queue.endswith(".fifo"), "two receives of a FIFO queue at once"

    def check_recordings(self) -> None:
        """Each death is given to one child, of a tag that was lost, and its group and its slot wait for it."""
        for slot, dispatch in self.world.running.items():
            if dispatch.fault is not None and (slot, dispatch.tag) not in self.seen:
                assert dispatch.tag not in self.recorded, "recorded twice"
                expired = dispatch.fault.exception == "TaskRevokedError"
                assert expired or dispatch.tag in self.reported or self.early, "recorded though it was not lost"
                assert dispatch.last
                self.recorded.add(dispatch.tag)
        self.seen = {(slot, dispatch.tag) for slot, dispatch in self.world.running.items()}
        waiting = [held for held in self.world.core._ledger if held.state == "unrecorded"]
        assert all(held.fault and held.fate and held.slot is None for held in waiting)
        idle = self.world.core.snapshot()["slots"]["idle"]
        assert not (waiting and idle), "a child is idle while a death waits to be recorded"
        blocked = {held.group for held in waiting if held.group}
        running = {("o.fifo", dispatch.delivery.group_id) for dispatch in self.world.running.values()}
        assert not blocked & running, "a FIFO group goes on before a death in it is recorded"

    def bring_to_an_end(self) -> None:
        self.world.core.on_stop("warm", self.world.now)
        for _ in range(200):
            self.act()
            for queue in sorted(self.world.polls):
                self.world.arrive(queue=queue)
            for queue in sorted(self.world.extra.elements()):
                self.world.arrive_beside(queue=queue)
            for slot in sorted(self.world.running):
                self.reported.add(self.world.running.pop(slot).tag)
                self.world.core.on_outcome(slot, Outcome("succeeded", "t"), self.world.now)
            self.act()
            asked, self.world.settling = self.world.settling, []
            self.world.core.on_settled([v.Settled(each.tag, ok=True) for each in asked], self.world.now)
            self.act()
            if self.world.done:
                return
            self.pass_time()
        raise AssertionError(f"the stop never ends: {self.world.core.snapshot()}")


@pytest.mark.parametrize("seed", range(25))
def test_a_storm_of_events_breaks_no_rule_and_a_stop_always_ends(seed):
    storm = Storm(seed)
    for _ in range(EVENTS):
        storm.step()

    assert sum(storm.world.ran.values()) > 50, "hardly anything happened"
    assert storm.recorded, "no death was final"
    assert storm.told_lost or storm.early, "no lease ran out"
    storm.bring_to_an_end()

    snapshot = storm.world.core.snapshot()
    assert snapshot["states"] == {}
    assert all(row["in_hand"] == 0 and row["running"] == 0 for row in snapshot["queues"].values())
