"""Which queues are asked for messages, and for how many, with no walk through those whose turn it is not."""

from __future__ import annotations

from typing import NamedTuple

from pyqs_celery.broker.limits import BATCH_ENTRIES
from pyqs_celery.worker.core import credit
from pyqs_celery.worker.core.ledger import Ledger
from pyqs_celery.worker.core.queues import QueueTable
from pyqs_celery.worker.core.slots import Slots
from pyqs_celery.worker.core.values import CoreConfig, Poll

OTHERS_PART = 0.2
"""Of the polls that may be open, where that is limited, so many are kept for queues whose last one brought nothing."""


class Room(NamedTuple):
    """What there is room for, as a queue of one rank sees it."""

    capacity: int
    slots: int
    at_once: int
    in_hand: int
    stuck: int

    @property
    def buffer(self) -> int:
        """How much may be held beyond the slots."""
        return self.capacity - self.slots

    @property
    def free(self) -> int:
        """How many messages there is room for."""
        return max(self.capacity - self.in_hand, self.slots - (self.in_hand - self.stuck))


class Fetching:
    """Adds polls to what is to be done."""

    def __init__(self, ledger: Ledger, queues: QueueTable, slots: Slots) -> None:
        self._ledger = ledger
        self._queues = queues
        self._slots = slots

    def capacity(self, config: CoreConfig, mean_runtime: float | None) -> int:
        """The most deliveries to hold at once."""
        return credit.capacity(config, mean_runtime, self._ledger.body_size.mean)

    def poll(self, config: CoreConfig, mean_runtime: float | None, now: float) -> None:
        """Ask those queues whose turn it is, the higher ranks first."""
        if not self._slots or self._queues.none_to_ask(now):
            return
        if len(self._ledger) >= credit.held_most(config, self._ledger.body_size.mean, self._queues.number):
            return
        capacity = self.capacity(config, mean_runtime)
        self._ask(config, capacity, mean_runtime, now)
        if not config.simple:
            self._add_to_deep(config, capacity, now)

    def _ask(self, config: CoreConfig, capacity: int, mean_runtime: float | None, now: float) -> None:
        """Open long polls."""
        most = config.open_polls
        if most is not None and self._queues.polls.number >= most:
            return
        at_once = credit.at_once(config, mean_runtime, self._ledger.body_size.mean, self._queues.number)
        for rank in self._queues.ranks(now, capacity - config.concurrency):
            room = Room(capacity, config.concurrency, at_once, *self._queues.load(rank))
            if config.simple and self._slots.idle <= room.in_hand - room.stuck - self._queues.total_running:
                return
            names = self._names(rank, room, now)
            if most is not None:
                names = self._in_turn(names, most)
            for name in names:
                if most is not None and self._queues.polls.number >= most:
                    return
                count = self._wanted(name, room, now)
                if count > 0:
                    self._begin(name, min(count, 1) if config.simple else count, now)

    def _begin(self, name: str, count: int, now: float) -> None:
        self._queues.poll_began(name, count, now)
        self._ledger.out.append(Poll(name, count))

    def _names(self, rank: int, room: Room, now: float) -> list[str]:
        """Those whose turn it could be. Without room a buffer still has some for a queue of which nothing is in hand."""
        askable = self._queues.askable
        names = askable.names(rank, "untouched") if room.free > 0 or room.buffer > 0 else []
        if room.free > 0:
            names += askable.names(rank, "busy")
        if room.free - self._queues.polls.promised(now) >= BATCH_ENTRIES:
            names += askable.names(rank, "ready")
        return names

    def _in_turn(self, names: list[str], most: int) -> list[str]:
        """In which order they are asked where so few polls may be open: those that have just brought something, then the others.

        Of each kind the one that was asked longest ago is first. For the others a fifth of the polls is kept, at least one, so
        that queues that always have more do not shut them out. A single poll goes round, whatever it brings.
        """
        names.sort(key=self._queues.polls.turn)
        if most == 1:
            return names
        quiet = [name for name in names if self._queues.is_quiet(name)]
        eager = [name for name in names if not self._queues.is_quiet(name)]
        first = max(0, most - max(1, int(most * OTHERS_PART)) - len(self._queues.polls.eager))
        return eager[:first] + quiet + eager[first:]

    def _add_to_deep(self, config: CoreConfig, capacity: int, now: float) -> None:
        """Make more receives of a deep queue at once, as long as there is room for all that they bring."""
        polls, queues = self._queues.polls, self._queues
        if not polls.deep or not credit.brings_little(self._ledger.body_size.mean):
            return
        most = Room(capacity, config.concurrency, 1, *queues.load(queues.top_rank))
        if most.free - polls.promised(now) < BATCH_ENTRIES:
            return
        for name in queues.deep():
            rank = queues.policy(name).rank
            room = Room(capacity, config.concurrency, 1, *queues.load(rank))
            while (
                polls.may_add(name)
                and not queues.must_wait(rank, now)
                and self._wanted(name, room, now) == BATCH_ENTRIES
            ):
                polls.extra_began(name)
                self._ledger.out.append(Poll(name, BATCH_ENTRIES, extra=True))

    def _wanted(self, name: str, room: Room, now: float) -> int:
        ready = self._queues.ready.count(name)
        count = credit.wanted(
            capacity=room.capacity,
            slots=room.slots,
            in_hand=room.in_hand,
            queue_in_hand=self._queues.in_hand(name),
            queue_ready=ready,
            reserved=self._queues.polls.promised(now),
            is_quiet=self._queues.is_quiet(name),
            stuck=room.stuck,
            at_once=room.at_once,
        )
        most = self._queues.batch_limit(name, now, count, room.buffer)
        if most < count and (most == 0 or (ready and most < BATCH_ENTRIES and self._queues.policy(name).concurrency)):
            self._queues.limit_reached(name)  # with work at hand a full batch is waited for
            return 0
        return min(count, most)
