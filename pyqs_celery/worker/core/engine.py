"""The worker's core: events in, actions out, without threads, clocks or SQS.

The shell calls an ``on_...`` method for each thing that happened, then ``step(now)`` for what is to be done,
and again at ``next_wakeup()``. Rules that are not written where they are applied:

* A message is deleted only after its outcome, unless its task asked for early acks.
* A FIFO group runs one at a time; the next starts when the deletion of the one before is confirmed, and when one is
  not deleted, the later ones in hand are given back unrun.
* A delivery whose process died for good is settled only after another child has recorded that, if there is one. So is
  one that has expired, where results are kept.
* The same message received again while it is held never runs beside itself: the newest receipt handle is kept and the
  copy dropped.
* At a stop, a queue's unstarted messages go back only after its own open poll has returned, else that poll would take
  them again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pyqs_celery.broker.delivery import Delivery
from pyqs_celery.exceptions import WireError
from pyqs_celery.outcome import Outcome
from pyqs_celery.wire.message import Head
from pyqs_celery.worker.core import credit, leases
from pyqs_celery.worker.core.admission import admit
from pyqs_celery.worker.core.deferral import Plan
from pyqs_celery.worker.core.disposition import (
    ACK,
    Verdict,
    after_outcome,
    after_undecodable,
    is_final_failure,
    is_last_delivery,
    unknown_delay,
)
from pyqs_celery.worker.core.fetching import Fetching
from pyqs_celery.worker.core.held import Held
from pyqs_celery.worker.core.ledger import Ledger
from pyqs_celery.worker.core.loss import loss_of
from pyqs_celery.worker.core.queues import QueueTable
from pyqs_celery.worker.core.rates import RateLimits
from pyqs_celery.worker.core.recordings import Recordings
from pyqs_celery.worker.core.renewals import Renewals
from pyqs_celery.worker.core.slots import Slots
from pyqs_celery.worker.core.snapshot import View, snapshot_of
from pyqs_celery.worker.core.timers import Timers
from pyqs_celery.worker.core.values import (
    Ack,
    Action,
    CoreConfig,
    DeadLetter,
    Dispatch,
    Done,
    Extended,
    Fault,
    Hop,
    Kill,
    KillReason,
    QueuePolicy,
    Release,
    Settled,
    StopMode,
    TaskPolicy,
)

UNREAD = TaskPolicy(known=True)
EXPIRED = Fault("TaskRevokedError", "expired")


class WorkerCore:
    """Owns the state of every delivery the worker holds.

    ``task_policy`` says how deliveries of a head's task are treated; ``decode_head`` reads a body's head and raises
    ``WireError`` if there is none.
    """

    def __init__(
        self, config: CoreConfig, task_policy: Callable[[Head], TaskPolicy], decode_head: Callable[[str], Head]
    ) -> None:
        self.config = config
        self._task_policy = task_policy
        self._decode_head = decode_head
        self._queues = QueueTable(adaptive=credit.is_adaptive(config))
        self._ready = self._queues.ready
        self._timers = Timers()
        self._ledger = Ledger(self._queues, self._ready, self._timers)
        self._renewals = Renewals(self._ledger, self._timers, config.max_lease_seconds)
        self._rates = RateLimits()
        self._runtime = credit.MovingMean()
        self._slots = Slots()
        self._fetching = Fetching(self._ledger, self._queues, self._slots)
        self._recordings = Recordings(self._ledger, self._slots, self._timers)
        self._stop: StopMode | None = None
        self._stop_at = 0.0
        self._killed_all = False
        self._done = False

    # -- what happened -----------------------------------------------------------------------------

    def set_queues(self, policies: Iterable[QueuePolicy], now: float) -> None:
        """Serve exactly these queues from now on; deliveries of a dropped queue are still finished."""
        self._queues.replace(policies)

    def on_polled(self, queue: str, deliveries: Sequence[Delivery], now: float, *, extra: bool = False) -> None:
        """The one answer to each Poll, which was ``extra`` or not: what it brought, or nothing (an error brings nothing)."""
        self._queues.poll_ended(queue, len(deliveries), now, extra=extra)
        policy = self._queues.policy(queue)
        if policy.fifo and any(delivery.receive_count > 1 for delivery in deliveries):
            self._ledger.troubled.setdefault(queue, 0.0)
        for delivery in deliveries:
            self._ledger.take(delivery, policy)
        self._admit_promoted(now)
        if self._stop is not None or queue in self._queues.cancelled or self._queues.rests.is_resting(queue, now):
            self._give_back_unstarted(queue)

    def on_cancelled(self, queue: str) -> None:
        """Somebody wants this queue served no more: what is unstarted of it goes back."""
        self._queues.cancelled.add(queue)
        self._give_back_unstarted(queue)

    def on_awake(self, now: float) -> None:
        """The shell has waited, or was stopped (SIGSTOP): before anything else is told, leases that ended meanwhile are lost."""
        self._renewals.wake(now)

    def on_slot_ready(self, slot: int, now: float) -> None:
        """A child is there and idle."""
        self._slots.add(slot)

    def on_slot_retired(self, slot: int, now: float) -> None:
        """A child left in good order, with nothing in hand."""
        self._slots.remove(slot)

    def on_slot_lost(self, slot: int, reason: str, now: float) -> None:
        """A child died or was killed; whatever it ran is settled by that, after it is recorded if it is final."""
        held = self._ledger.get(self._slots.remove(slot))
        if held is None:
            return
        held.slot = None
        if held.fault is not None:
            self._recordings.end(held)
        elif not held.waits_for_ack:
            self._renewals.has_lost(held, now)
            self._bury(held, reason)

    def on_revoked(self, signums: Mapping[str, int], now: float) -> None:
        """Tasks, by id, that are to be ended by these signals if they run here."""
        for held in self._ledger:
            signum = signums.get(held.task_id) if self._may_be_ended(held) else None
            if signum is not None and held.killed_for is None:
                self._ledger.note("terminating", held, str(signum))
                self._kill(held, "revoked", signum)

    def on_outcome(self, slot: int, outcome: Outcome, now: float) -> None:
        """A child reports how the delivery in its slot ended, and is idle again."""
        held = self._ledger.get(self._slots.tag(slot))
        if held is not None and held.killed_for is not None:
            self._slots.remove(slot)  # it was just in time, but its process is about to be killed
        else:
            self._slots.free(slot)
        if held is None:
            return
        if held.fault is not None:
            self._recordings.end(held)
            return
        if held.head is not None and held.head.sealed and outcome.task is not None:
            held.policy = self._task_policy(replace(held.head, task=outcome.task, sealed=False))
        self._runtime.add(now - held.started_at)
        if held.queue.concurrency is not None:
            self._queues.ran(held.queue.name, now - held.started_at)
        held.slot = None
        if outcome.kind == "deferred" and outcome.eta is not None:
            self._wait(held, self._plan(held, outcome.eta, now), outcome.eta, now)
            return
        if outcome.kind in ("unknown", "unsupported", "undecodable"):
            self._ledger.note_once(
                outcome.kind if outcome.kind != "unsupported" else "unknown", held, outcome.reason, outcome
            )
        elif outcome.kind in ("failed", "rejected", "expired", "revoked"):
            event = outcome.kind if outcome.kind != "rejected" else "failed"
            self._ledger.note(event, held, outcome.reason, outcome)
        if self._renewals.has_lost(held, now):
            self._ledger.note("repeated", held, "its lease was lost while it ran, so it may run again", outcome)
        self._ledger.finish(held, self._verdict(held, outcome))

    def on_settled(self, results: Iterable[Settled], now: float) -> None:
        """How the deletions, releases and moves ended."""
        for result in results:
            held = self._ledger.get(result.tag)
            if held is None or held.settlement is None:
                continue
            self._learn(held, result, now)
            settled = held.settlement
            if result.ok and isinstance(settled, Ack) and settled.delivery is not held.delivery:
                self._ledger.ack_newest(held)  # it came again meanwhile
                continue
            if held.waits_for_ack:
                self._early_ack_done(held, result, now)
                continue
            if held.state in ("running", "unrecorded"):
                held.settlement = None
                if not result.ok:
                    self._ledger.note("repeated", held, result.detail)
                continue
            if not result.ok and not isinstance(settled, Release):
                self._ledger.note("repeated", held, result.detail)
            elif isinstance(settled, DeadLetter) and result.ok:
                self._ledger.note("dead_lettered", held, settled.target)
            self._ledger.drop(held, passed=result.ok and not isinstance(settled, Release))

    def _learn(self, held: Held, result: Settled, now: float) -> None:
        """What the end of a settlement says of our permission to delete."""
        if result.forbidden:
            self._queues.rests.forbid(held.queue.name, now)
        elif result.ok and isinstance(held.settlement, Ack):
            self._queues.rests.allow(held.queue.name)

    def on_refused(self, queue: str, now: float) -> None:
        """A deletion was denied and is tried again: what would run only to stay on its queue goes back."""
        self._queues.rests.refuse(queue, now)
        self._give_back_unstarted(queue)

    def on_extended(self, results: Iterable[Extended], now: float) -> None:
        """How the renewals of leases ended."""
        self._renewals.on_extended(results, now)

    def on_stop(self, mode: StopMode, now: float) -> None:
        """Begin to stop, or stop harder: warm, then soft, then cold."""
        order: tuple[StopMode, ...] = ("warm", "soft", "cold")
        if self._stop is not None and order.index(mode) <= order.index(self._stop):
            return
        self._stop = mode
        self._stop_at = now + self.config.stop_seconds(mode)
        for queue in {held.queue.name for held in self._ledger}:
            self._give_back_unstarted(queue)

    # -- what to do --------------------------------------------------------------------------------

    def step(self, now: float) -> list[Action]:
        """Everything that is to be done now; each action is handed out once."""
        self._run_timers(now)
        self._admit_promoted(now)
        self._queues.be_careful(self._ledger.troubled, now)
        self._recordings.dispatch(now)
        if self._stop is None:
            if self._queues.ranked and self._slots.idle:
                self._poll(now)  # a higher queue is asked before a slot goes to a lower one
            self._dispatch_ready(now)
            self._poll(now)
        else:
            self._press_on_with_stop(now)
        out, self._ledger.out = self._ledger.out, []
        return out

    def next_wakeup(self, now: float) -> float | None:
        """The latest instant at which ``step`` must be called again though nothing happened."""
        instants = [self._timers.next(), self._queues.rests.next_end(now), self._queues.precedence.next_change(now)]
        if self._stop is not None and not self._killed_all:
            instants.append(self._stop_at)
        known = [instant for instant in instants if instant is not None]
        return min(known) if known else None

    def is_idle(self, slot: int) -> bool:
        """True if nothing runs in this slot."""
        return self._slots.tag(slot) is None

    def busy_slots(self) -> list[int]:
        """The slots in which something runs."""
        return [slot for slot, _ in self._slots.running()]

    def running_ids(self) -> list[str]:
        """The ids of tasks that run, which ``on_revoked`` could end."""
        return [held.task_id for held in self._ledger if self._may_be_ended(held)]

    @property
    def stopping(self) -> StopMode | None:
        """How it is being stopped, if it is."""
        return self._stop

    @property
    def view(self) -> View:
        """What it holds, to be looked at only."""
        return View(self._ledger, self._queues, self._slots)

    def snapshot(self) -> dict[str, Any]:
        """Counts by state and by queue, and what each slot runs; for inspect and dumps."""
        found = snapshot_of(self._ledger, self._queues, self._slots)
        capacity = self._fetching.capacity(self.config, self._runtime.mean)
        return {**found, "capacity": capacity, "stopping": self._stop}

    # -- taking ------------------------------------------------------------------------------------

    def _admit_promoted(self, now: float) -> None:
        while self._ledger.promoted:
            held = self._ledger.promoted.popleft()
            if held.state == "received":
                self._admit(held, now)

    def _admit(self, held: Held, now: float) -> None:
        if self._stop is not None:
            return
        try:
            head = self._decode_head(held.delivery.body)
        except WireError as exc:
            self._ledger.note_once("undecodable", held, str(exc))
            self._ledger.finish(held, after_undecodable(held.queue, held.delivery, str(exc)))
            return
        held.head = head
        held.policy = self._task_policy(head)
        admission = admit(head, held.policy, held.queue, held.delivery, now, self.config.hold_horizon_seconds)
        if admission.kind == "unknown":
            self._ledger.note_once("unknown", held, head.task or "")
            self._ledger.finish(held, Verdict("release", unknown_delay(held.delivery)))
        elif admission.kind == "expire":
            self._ledger.note("expired", held)
            if self.config.keeps_results:
                self._recordings.add(held, EXPIRED, ACK)
            else:
                self._ledger.finish(held, ACK)
        else:
            self._ledger.note("received", held)
            if admission.plan is not None and head.eta is not None:
                self._wait(held, admission.plan, head.eta, now)
            else:
                self._make_ready(held, now)

    def _plan(self, held: Held, eta: float, now: float) -> Plan | None:
        return held.plan(eta, now, self.config.hold_horizon_seconds)

    def _wait(self, held: Held, waiting: Plan | None, eta: float, now: float) -> None:
        if waiting is None:
            self._make_ready(held, now)
        elif waiting.kind == "hop":
            self._ledger.note("deferred", held, f"hop {waiting.delay_seconds}")
            self._ledger.settle(held, Hop(held.tag, held.delivery, waiting.delay_seconds))
        elif waiting.kind == "park":
            self._ledger.note("deferred", held, f"park {waiting.delay_seconds}")
            self._ledger.finish(held, Verdict("release", waiting.delay_seconds))
        else:
            held.state = "deferred"
            held.due_at = eta
            self._ledger.mark_stuck(held, stuck=held.group is not None)
            self._timers.add(eta, held.tag, "due")

    def _make_ready(self, held: Held, now: float) -> None:
        """It is due; a rate limit may make it wait for its turn all the same."""
        rate = held.policy.rate_limit if held.policy is not None and not held.has_turn else None
        if rate and held.head is not None and held.head.task is not None:
            turn = self._rates.ask(held.head.task, rate, now, self.config.hold_horizon_seconds)
            held.has_turn = turn.granted
            if turn.at > now:
                self._wait(held, self._plan(held, turn.at, now), turn.at, now)
                return
        held.state = "ready"
        self._ledger.mark_stuck(held, stuck=False)
        self._ready.add(held.queue.name, held.tag)
        if credit.is_adaptive(self.config):
            self._timers.add(now + credit.PATIENCE_SECONDS, held.tag, "patience")

    # -- running -----------------------------------------------------------------------------------

    def _dispatch_ready(self, now: float) -> None:
        floor = self._queues.precedence.floor(now)
        in_a_row = credit.in_a_row(self.config, self._runtime.mean)
        while self._slots.idle:
            tag = self._ready.pick(floor, in_a_row)
            if tag is None:
                return
            held = self._ledger.get(tag)
            if held is None or held.state != "ready":
                continue
            if not leases.is_safe(held, now):
                self._ledger.lose_lease(held, "it ran out before a slot was free")
                continue
            self._dispatch(held, now)

    def _dispatch(self, held: Held, now: float) -> None:
        policy = held.policy or UNREAD
        held.slot = self._slots.take(held.tag)
        self._ledger.start(held, now)
        if not policy.acks_late:
            held.acked_early = True
            held.waits_for_ack = self.config.ack_before_run_waits
            self._ledger.ack_newest(held)
        if not held.waits_for_ack:
            self._start(held, now)

    def _start(self, held: Held, now: float) -> None:
        policy = held.policy or UNREAD
        assert held.slot is not None
        assert held.head is not None
        hard, soft = held.head.timelimit
        hard = hard if hard is not None else policy.hard_time_limit
        soft = soft if soft is not None else policy.soft_time_limit
        held.started_at = now
        if hard:
            held.hard_limit = hard
            held.kill_at = now + hard
            self._timers.add(held.kill_at, held.tag, "kill")
        is_last = is_last_delivery(held.queue, held.delivery)
        last = is_final_failure(policy, last_delivery=is_last, timed_out=False)
        late = is_final_failure(policy, last_delivery=is_last, timed_out=True)
        self._ledger.out.append(Dispatch(held.slot, held.tag, held.delivery, held.head, last, late, hard, soft))

    def _early_ack_done(self, held: Held, result: Settled, now: float) -> None:
        held.waits_for_ack = False
        held.settlement = None
        if result.ok and held.slot is not None:
            self._start(held, now)
            return
        if result.ok:
            self._bury(held, "its process ended before the task began")
            return
        held.acked_early = False
        if held.slot is not None:
            self._slots.free(held.slot)
            held.slot = None
        self._ledger.note("repeated", held, f"not run, since its message could not be deleted first: {result.detail}")
        self._ledger.finish(held, Verdict("release", 0))

    def _bury(self, held: Held, reason: str) -> None:
        """Its process has died: settle it, at once or when a child has recorded it."""
        loss = loss_of(held, held.policy or UNREAD, reason, self.config.reject_delay_seconds)
        self._ledger.note(loss.event, held, loss.detail, loss.outcome)
        if loss.fault is None:
            self._ledger.finish(held, loss.verdict)
        else:
            self._recordings.add(held, loss.fault, loss.verdict)

    # -- settling ----------------------------------------------------------------------------------

    def _verdict(self, held: Held, outcome: Outcome) -> Verdict:
        policy = held.policy or UNREAD
        return after_outcome(held.queue, held.delivery, policy, outcome, self.config.reject_delay_seconds)

    # -- time --------------------------------------------------------------------------------------

    def _run_timers(self, now: float) -> None:
        self._renewals.wake(now)
        for tag, kind in self._timers.pop_due(now):
            held = self._ledger.get(tag)
            if held is None:
                continue
            if kind == "lease":
                self._renewals.look_at(held, now)
            elif kind == "due" and held.state == "deferred" and held.due_at <= now:
                self._make_ready(held, now)
            elif kind == "patience" and held.state == "ready" and not self._ready.is_blocked(held.queue.name):
                if held.queue.rank >= self._queues.top_rank_in_hand:
                    self._runtime.add_at_least(credit.PATIENCE_SECONDS)
                self._ledger.give_up_waiting(held)
            elif kind == "kill" and held.state == "running" and held.kill_at is not None and held.kill_at <= now:
                self._kill(held, "hard time limit")
        self._renewals.flush(now)

    # -- polling and stopping ----------------------------------------------------------------------

    def _poll(self, now: float) -> None:
        self._fetching.poll(self.config, self._runtime.mean, now)

    def _give_back_unstarted(self, queue: str) -> None:
        if not self._queues.polls.is_open(queue):
            self._ledger.give_back(queue)

    def _kill(self, held: Held, reason: KillReason, signum: int | None = None) -> None:
        if held.killed_for is None and held.slot is not None:
            held.killed_for, held.kill_signum = reason, signum or 0
            self._ledger.out.append(Kill(held.slot, reason, signum))

    @staticmethod
    def _may_be_ended(held: Held) -> bool:
        return held.state == "running" and held.fault is None and not held.waits_for_ack

    def _press_on_with_stop(self, now: float) -> None:
        if now >= self._stop_at and not self._killed_all:
            self._killed_all = True
            for held in self._ledger:
                if held.state == "running":
                    self._kill(held, "shutdown")
        if self._killed_all or not self._slots:
            self._recordings.give_up()
        if not self._ledger and not self._queues.polls.any_open and not self._done:
            self._done = True
            self._ledger.out.append(Done())
