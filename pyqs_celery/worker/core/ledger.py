"""Every delivery in hand, and the few ways in which one is settled and forgotten."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

from pyqs_celery.broker.delivery import Delivery
from pyqs_celery.outcome import Outcome
from pyqs_celery.worker.core import leases
from pyqs_celery.worker.core.credit import MovingMean
from pyqs_celery.worker.core.disposition import Verdict
from pyqs_celery.worker.core.fairness import ReadyQueues
from pyqs_celery.worker.core.held import Held, Settlement
from pyqs_celery.worker.core.queues import QueueTable
from pyqs_celery.worker.core.timers import Timers
from pyqs_celery.worker.core.values import Ack, Action, DeadLetter, Fault, Note, QueuePolicy, Release

NOTED_MOST = 10_000
"""How many message ids are remembered as already told about."""


class Ledger:
    """The records by tag, by message and by FIFO group, and the counts that follow from them.

    What is to be done and told gathers in ``out``. ``troubled`` are FIFO queues of which a message has just failed, with
    the seconds until it comes back. ``promoted`` are deliveries that have become the first of their
    group and wait to be admitted. No lease that matters ends before ``soonest_end``.
    """

    def __init__(self, queues: QueueTable, ready: ReadyQueues, timers: Timers) -> None:
        self.out: list[Action] = []
        self.promoted: deque[Held] = deque()
        self.troubled: dict[str, float] = {}
        self.body_size = MovingMean()
        self.soonest_end = float("inf")
        self._queues = queues
        self._ready = ready
        self._timers = timers
        self._held: dict[int, Held] = {}
        self._by_queue: dict[str, dict[int, Held]] = {}
        self._by_message: dict[tuple[str, str], int] = {}
        self._groups: dict[tuple[str, str], deque[int]] = {}
        self._noted: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._unrun: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._next_tag = 0

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        return iter(list(self._held.values()))

    def get(self, tag: int | None) -> Held | None:
        """The record of a tag, None if it is gone."""
        return self._held.get(tag) if tag is not None else None

    def of_queue(self, queue: str) -> list[Held]:
        """What is in hand of one queue."""
        return list(self._by_queue.get(queue, {}).values())

    # -- in ----------------------------------------------------------------------------------------

    def take(self, delivery: Delivery, policy: QueuePolicy) -> None:
        """Open a record; the first of a group, or one of no group, is promoted at once."""
        known = self._by_message.get((delivery.queue, delivery.message_id))
        if known is not None and self._renew_copy(self._held[known], delivery):
            return
        unrun = self._unrun.get((delivery.queue, delivery.message_id), 0)
        delivery = replace(delivery, unrun_count=unrun) if unrun else delivery
        self._next_tag += 1
        until = delivery.received_at + policy.lease_seconds
        held = Held(self._next_tag, delivery, policy, lease_until=until, held_since=delivery.received_at)
        self._held[held.tag] = held
        self._by_queue.setdefault(policy.name, {})[held.tag] = held
        self.soonest_end = min(self.soonest_end, until)
        self._by_message[delivery.queue, delivery.message_id] = held.tag
        self._queues.count_in_hand(delivery.queue, +1)
        self._timers.add(leases.renew_at(held), held.tag, "lease")
        self.body_size.add(len(delivery.body))
        if held.group is None:
            self.promoted.append(held)
            return
        waiting = self._groups.setdefault(held.group, deque())
        waiting.append(held.tag)
        if len(waiting) == 1:
            self.promoted.append(held)
        else:
            self.mark_stuck(held, stuck=True)

    def _renew_copy(self, held: Held, delivery: Delivery) -> bool:
        """Take the newest receipt of a message already in hand; False if the old record is of no use."""
        if isinstance(held.settlement, Release):
            return False
        held.delivery = delivery
        held.lease_until = delivery.received_at + held.queue.lease_seconds
        held.held_since = delivery.received_at
        held.lease_lost = False
        self.soonest_end = min(self.soonest_end, held.lease_until)
        self._timers.add(leases.renew_at(held), held.tag, "lease")
        if held.acked_early and held.settlement is None:
            self.ack_newest(held)
        return True

    # -- out ---------------------------------------------------------------------------------------

    def finish(self, held: Held, verdict: Verdict) -> None:
        """Settle by ``verdict``; one acked before its run is over already, or when that is confirmed."""
        if held.acked_early and held.settlement is None:
            self.drop(held, passed=True)
        elif held.acked_early:
            self._wait_for_end(held)
        elif verdict.kind == "ack":
            self.settle(held, Ack(held.tag, held.delivery))
        elif held.lease_lost:
            self.drop(held, passed=False)
        elif verdict.kind == "dead_letter" and held.queue.dead_letter_queue is not None:
            target, delay = held.queue.dead_letter_queue, verdict.delay_seconds
            move = DeadLetter(held.tag, held.delivery, target, verdict.reason, verdict.exception, delay)
            self.settle(held, move)
        else:
            self.settle(held, Release(held.tag, held.delivery, verdict.delay_seconds))
            if held.group is not None:
                self.troubled[held.queue.name] = verdict.delay_seconds
                waiting = self._groups[held.group]
                self._give_back_behind(waiting, waiting.index(held.tag))

    def start(self, held: Held, now: float) -> None:
        """A child has it."""
        held.state = "running"
        held.started_at = now
        self._queues.count_running(held.queue.name, +1)

    def mark_stuck(self, held: Held, *, stuck: bool) -> None:
        """It cannot take a slot though there is one, or can now."""
        if stuck != held.stuck:
            self._queues.count_stuck(held.queue.name, stuck - held.stuck)
            held.stuck = stuck

    def keep_unrecorded(self, held: Held, fault: Fault, fate: Verdict) -> None:
        """How it ended is known: hold it until a child has recorded that."""
        if held.state == "running":
            self._queues.count_running(held.queue.name, -1)
        held.state = "unrecorded"
        held.fault, held.fate = fault, fate

    def settle(self, held: Held, settlement: Settlement) -> None:
        """Ask for a settlement; its end comes by ``on_settled``."""
        if held.unstarted and isinstance(settlement, Release):
            self._count_unrun(held)
        self._wait_for_end(held)
        held.settlement = settlement
        self.out.append(settlement)

    def ack_newest(self, held: Held) -> None:
        """Delete a message by its newest receipt, whatever becomes of its task."""
        self.soonest_end = min(self.soonest_end, held.lease_until)
        again = Ack(held.tag, held.delivery, waited_for=held.waits_for_ack)
        held.settlement = again
        self.out.append(again)

    def _wait_for_end(self, held: Held) -> None:
        self._uncount(held)
        if held.state != "settling":
            self._queues.count_unsettled(held.queue.name, +1)
        held.state = "settling"

    def _count_unrun(self, held: Held) -> None:
        """Remember that this receipt was no try of its task; SQS counts it all the same."""
        key = (held.delivery.queue, held.delivery.message_id)
        self._unrun[key] = self._unrun.pop(key, 0) + 1
        if len(self._unrun) > NOTED_MOST:
            self._unrun.popitem(last=False)

    def drop(self, held: Held, *, passed: bool) -> None:
        """Forget a delivery; ``passed`` lets the next of its FIFO group run."""
        self._uncount(held)
        if held.state == "settling":
            self._queues.count_unsettled(held.queue.name, -1)
        held.state = "gone"
        if self._held.pop(held.tag, None) is not None:
            of_queue = self._by_queue[held.queue.name]
            del of_queue[held.tag]
            if not of_queue:
                del self._by_queue[held.queue.name]
        key = (held.delivery.queue, held.delivery.message_id)
        if self._by_message.get(key) == held.tag:
            del self._by_message[key]
        if held.group is not None:
            self._leave_group(held, held.group, passed)

    def give_back(self, queue: str) -> None:
        """Release what is unstarted of a queue."""
        for held in self.of_queue(queue):
            if held.unstarted:
                self.settle(held, Release(held.tag, held.delivery, 0))

    def give_up_waiting(self, held: Held) -> None:
        """It has waited too long for a slot here: let another worker have it, if SQS delivers it once more."""
        most = held.queue.max_receive_count
        if most is None or held.delivery.receive_count < most:
            self.note("released", held, "it waited here too long for a free process")
            self.settle(held, Release(held.tag, held.delivery, 0))
            if held.group is not None:
                self._give_back_behind(self._groups[held.group], 0)

    def lose_lease(self, held: Held, detail: str) -> None:
        """Another worker may have the message by now; unless it runs already, it is not ours any more."""
        if held.lease_lost:
            return
        held.lease_lost = True
        self.note("lease_lost", held, detail)
        if held.unstarted:
            self.drop(held, passed=False)

    def _uncount(self, held: Held) -> None:
        self.mark_stuck(held, stuck=False)
        if held.state == "running":
            self._queues.count_running(held.queue.name, -1)
        if held.state == "ready":
            self._ready.remove(held.queue.name, held.tag)
        if held.state != "settling":
            self._queues.count_in_hand(held.queue.name, -1)

    def _leave_group(self, held: Held, group: tuple[str, str], passed: bool) -> None:
        waiting = self._groups.get(group)
        if waiting is None or held.tag not in waiting:
            return
        place = waiting.index(held.tag)
        if not passed:
            self._give_back_behind(waiting, place)
        waiting.remove(held.tag)
        if not waiting:
            del self._groups[group]
        elif place == 0 and passed:
            follower = self._held[waiting[0]]
            if follower.state == "received":
                self.mark_stuck(follower, stuck=False)
                self.promoted.append(follower)

    def _give_back_behind(self, waiting: Iterable[int], place: int) -> None:
        """Release, unrun, what is held of a FIFO group behind a message that was not deleted, which is at this place."""
        for tag in list(waiting)[place + 1 :]:
            held = self._held[tag]
            if held.unstarted:
                self.settle(held, Release(held.tag, held.delivery, 0))

    # -- telling -----------------------------------------------------------------------------------

    def note(self, event: str, held: Held, detail: str = "", outcome: Outcome | None = None) -> None:
        """Tell people something about a delivery."""
        self.out.append(Note(event, held.delivery, held.head, detail, outcome))

    def note_once(self, event: str, held: Held, detail: str, outcome: Outcome | None = None) -> None:
        """The same, but once for each message."""
        key = (event, held.delivery.message_id)
        if key in self._noted:
            return
        self._noted[key] = None
        if len(self._noted) > NOTED_MOST:
            self._noted.popitem(last=False)
        self.note(event, held, detail, outcome)
