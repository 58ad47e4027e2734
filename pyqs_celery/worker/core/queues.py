"""The queues being served: which are polled, how much of each is in hand, and which must rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pyqs_celery.worker.core.askable import Askable
from pyqs_celery.worker.core.credit import UNSETTLED_MOST, MovingMean, own_buffer
from pyqs_celery.worker.core.fairness import ReadyQueues, Share
from pyqs_celery.worker.core.polls import Polls
from pyqs_celery.worker.core.precedence import LOWEST, Precedence
from pyqs_celery.worker.core.rests import Rests
from pyqs_celery.worker.core.values import QueuePolicy

CAREFUL_SECONDS = 60.0
"""How long after the last sign of a failing message a FIFO queue is received from one by one."""


@dataclass(slots=True)
class Tally:
    """What all queues of one rank have in hand."""

    in_hand: int = 0
    running: int = 0
    stuck: int = 0


class QueueTable:
    """One row for each queue; rows of dropped queues stay until their last delivery is gone.

    ``ready`` has what waits for a slot, ``polls`` what is open, ``rests`` who may not be asked, ``askable`` who may, and
    ``precedence`` who must wait for others.
    ``adaptive``: how much is held of a queue with a limit of its own follows its tasks.
    """

    def __init__(self, *, adaptive: bool = True) -> None:
        self.ready = ReadyQueues(self._place)
        self._adaptive = adaptive
        self.polls = Polls()
        self.rests = Rests(self._place)
        self.askable = Askable()
        self.precedence = Precedence()
        self._tallies: dict[int, Tally] = {}
        self._tally_of: dict[str, Tally] = {}
        self._ranked = False
        self._policies: dict[str, QueuePolicy] = {}
        self._retired: dict[str, QueuePolicy] = {}
        self._at_limit: set[str] = set()
        self._buffer = 0
        self._runtimes: dict[str, MovingMean] = {}
        self._in_hand: dict[str, int] = {}
        self._running: dict[str, int] = {}
        self._unsettled: dict[str, int] = {}
        self._careful: dict[str, float] = {}
        self.cancelled: set[str] = set()
        self.top_rank = LOWEST
        self.total_in_hand = 0
        self.total_running = 0
        self.total_stuck = 0

    def replace(self, policies: Iterable[QueuePolicy]) -> None:
        """Serve exactly these from now on."""
        fresh = {policy.name: policy for policy in policies}
        self.cancelled.difference_update(fresh)
        self._retired.update(self._policies)
        self._policies = fresh
        for name in [name for name in self._retired if name in fresh or not self._is_needed(name)]:
            del self._retired[name]
            if name not in fresh:
                self._forget(name)
        self.ready.share({name: Share(each.rank, each.weight) for name, each in (self._retired | fresh).items()})
        ranks = {policy.rank for policy in fresh.values()}
        self._ranked, self.top_rank = len(ranks) > 1, max(ranks, default=LOWEST)
        for name in (*self._retired, *fresh):
            self._place(name)

    def _place(self, name: str) -> None:
        """Put a queue where it is found when messages are wanted, or away while it may not be asked."""
        policy = self._policies.get(name)
        if policy is None or self.polls.is_long(name) or name in self._at_limit or not self._may_fetch(name):
            self.askable.drop(name)
        elif self.ready.count(name):
            self.askable.put(name, policy.rank, "ready")
        else:
            self.askable.put(name, policy.rank, "busy" if self._in_hand.get(name) else "untouched")

    def _may_fetch(self, name: str) -> bool:
        """True unless it rests, or too much of it waits to be settled."""
        return name not in self.rests and self._unsettled.get(name, 0) < UNSETTLED_MOST

    def _tally(self, name: str) -> Tally:
        found = self._tally_of.get(name)
        if found is None:
            found = self._tally_of[name] = self._tallies.setdefault(self.policy(name).rank, Tally())
        return found

    @property
    def number(self) -> int:
        """How many queues are served."""
        return len(self._policies)

    @property
    def names(self) -> tuple[str, ...]:
        """The queues that are served."""
        return tuple(self._policies)

    def policy(self, name: str) -> QueuePolicy:
        """The policy of a queue, served or dropped."""
        found = self._policies.get(name) or self._retired.get(name)
        return found if found is not None else QueuePolicy(name, name)

    def _is_needed(self, name: str) -> bool:
        return self.polls.is_open(name) or any(
            counts.get(name) for counts in (self._in_hand, self._running, self._unsettled)
        )

    def _forget(self, name: str) -> None:
        """Keep nothing of a queue that is served no more."""
        for table in (self._in_hand, self._running, self._unsettled, self._careful, self._runtimes, self._tally_of):
            table.pop(name, None)
        for part in (self.polls, self.rests, self.ready, self.precedence):
            part.forget(name)
        self.askable.drop(name)
        self._at_limit.discard(name)

    def poll_began(self, name: str, count: int, now: float) -> None:
        """A long poll of this queue, for up to ``count`` messages, is open."""
        self.polls.began(name, 0 if self.is_quiet(name) else count, now)
        if self._ranked:
            self.precedence.asked(name, self.policy(name).rank, count, now)
        self.askable.drop(name)

    def poll_ended(self, name: str, brought: int, now: float, *, extra: bool = False) -> None:
        """Its long poll has returned, or an ``extra`` one."""
        self.polls.ended(name, brought, now, extra=extra)
        if not extra:
            if self._ranked:
                self.precedence.answered(name, self.policy(name).rank, brought, now)
            self._place(name)

    def is_quiet(self, name: str) -> bool:
        """True for one of several queues if its last poll brought nothing; a new one counts as quiet."""
        return len(self._policies) > 1 and (name in self.polls.quiet or name not in self._in_hand)

    def deep(self) -> list[str]:
        """Deep standard queues whose long poll is open, and of which more may be fetched at the same time."""
        return [
            name
            for name in self.polls.deep
            if self.polls.is_long(name)
            and name in self._policies
            and not self._policies[name].fifo
            and self._may_fetch(name)
        ]

    @property
    def ranked(self) -> bool:
        """True if some queues go before others."""
        return self._ranked

    def none_to_ask(self, now: float) -> bool:
        """True if every queue has its poll and needs no more, or must wait for another."""
        if self.polls.deep or self._at_limit or self.rests:
            return False
        return not self.askable or self.must_wait(self.askable.top_rank, now)

    def ranks(self, now: float, buffer: int) -> Iterator[int]:
        """The ranks of which queues may be asked for messages, the highest first, down to the one that others wait for."""
        self.rests.wake(now)
        if buffer > self._buffer:
            at_limit, self._at_limit = self._at_limit, set()
            for name in at_limit:
                self._place(name)
        self._buffer = buffer
        for rank in self.askable.ranks():
            if self.must_wait(rank, now):
                return
            yield rank

    def must_wait(self, rank: int, now: float) -> bool:
        """True if nothing of this rank is to be fetched, since a higher one has messages, or may have."""
        return self._ranked and rank < max(self.precedence.floor(now), self.ready.top_rank())

    def load(self, rank: int) -> tuple[int, int]:
        """How much is in hand, and how much of it cannot take a slot yet, as a queue of this rank sees it.

        What waits below it does not keep it from messages; what runs does.
        """
        in_hand, stuck = self.total_in_hand, self.total_stuck
        if not self._ranked:
            return in_hand, stuck + self.ready.blocked
        for tally in (tally for lower, tally in self._tallies.items() if lower < rank):
            in_hand -= tally.in_hand - tally.running
            stuck -= tally.stuck
        return in_hand, stuck + self.ready.blocked_from(rank)

    def limit_reached(self, name: str) -> None:
        """It has as much in hand as its own limit allows."""
        self._at_limit.add(name)
        self.askable.drop(name)

    def ran(self, name: str, seconds: float) -> None:
        """A task of a queue with a limit of its own has taken so long."""
        self._runtimes.setdefault(name, MovingMean()).add(seconds)

    def be_careful(self, troubled: dict[str, float], now: float) -> None:
        """Take single messages of these FIFO queues for a while: one of each has failed, and comes back after so many seconds.

        A failing message is received with its followers in the group, which go back unrun, and each receipt brings them nearer
        to the dead-letter queue for nothing they did (AWS: FIFO queue delivery logic). Empties ``troubled``.
        """
        while troubled:
            name, delay = troubled.popitem()
            until = now + delay + CAREFUL_SECONDS
            self._careful[name] = max(until, self._careful.get(name, 0.0))

    def batch_limit(self, name: str, now: float, most: int, buffer: int) -> int:
        """How many messages of a queue may be received at once; one with a limit of its own has this buffer beyond it."""
        policy = self.policy(name)
        if policy.concurrency is not None:
            if self._adaptive:
                mean = self._runtimes.get(name)
                buffer = own_buffer(buffer, policy.concurrency, mean.mean if mean is not None else None)
            most = min(most, max(0, policy.concurrency + max(0, buffer) - self.in_hand(name)))
        if policy.fifo and (policy.max_receive_count == 1 or self._careful.get(name, 0.0) > now):
            return min(1, most)
        return most

    def count_in_hand(self, name: str, by: int) -> None:
        """Count a delivery in (+1) or out (-1)."""
        held = self._in_hand[name] = self._in_hand.get(name, 0) + by
        self.total_in_hand += by
        self._tally(name).in_hand += by
        if by < 0 and name in self._at_limit:
            self._at_limit.discard(name)
            self._place(name)
        elif held in (0, by):
            self._place(name)

    def count_unsettled(self, name: str, by: int) -> None:
        """Count a delivery that is to be deleted, released or moved (+1), or is (-1)."""
        waiting = self._unsettled[name] = self._unsettled.get(name, 0) + by
        if waiting >= UNSETTLED_MOST - 1:
            self._place(name)

    def count_stuck(self, name: str, by: int) -> None:
        """Count a delivery that can take no slot though there is one (+1), or can again (-1)."""
        self.total_stuck += by
        self._tally(name).stuck += by

    def in_hand(self, name: str) -> int:
        """Deliveries of this queue that are not being settled."""
        return self._in_hand.get(name, 0)

    def count_running(self, name: str, by: int) -> None:
        """Count a run in (+1) or out (-1), and mark the queue full at its limit."""
        running = self._running.get(name, 0) + by
        self._running[name] = running
        self.total_running += by
        self._tally(name).running += by
        limit = self.policy(name).concurrency
        if limit is not None and running >= limit:
            self.ready.block(name)
        elif limit is not None:
            self.ready.unblock(name)

    @property
    def top_rank_in_hand(self) -> int:
        """The highest rank of which anything is in hand."""
        return max((rank for rank, tally in self._tallies.items() if tally.in_hand), default=LOWEST)

    def snapshot(self) -> dict[str, Any]:
        """What each queue has in hand, for people."""
        return {
            name: {
                "logical": policy.logical,
                "polled": self.polls.is_long(name),
                "in_hand": self._in_hand.get(name, 0),
                "running": self._running.get(name, 0),
            }
            for name, policy in self._policies.items()
        }
