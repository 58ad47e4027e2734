"""The queues being served: which are polled, how much of each is in hand, and which must rest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pyqs_celery.worker.core.credit import UNSETTLED_MOST
from pyqs_celery.worker.core.values import QueuePolicy

FORBIDDEN_FIRST_SECONDS = 60.0
FORBIDDEN_MOST_SECONDS = 3600.0
CAREFUL_SECONDS = 60.0
"""How long after the last sign of a failing message a FIFO queue is received from one by one."""
PROMISED_SECONDS = 1.0
"""How long a poll counts as bringing what it asked for; one that is open longer waits on an empty queue."""


class QueueTable:
    """One row for each queue; rows of dropped queues stay until their last delivery is gone."""

    def __init__(self) -> None:
        self._policies: dict[str, QueuePolicy] = {}
        self._retired: dict[str, QueuePolicy] = {}
        self._polled: set[str] = set()
        self._quiet: set[str] = set()
        self._promised: dict[str, tuple[float, int]] = {}
        self._in_hand: dict[str, int] = {}
        self._running: dict[str, int] = {}
        self._unsettled: dict[str, int] = {}
        self._forbidden: dict[str, tuple[float, float]] = {}
        self._careful: dict[str, float] = {}
        self.weights: dict[str, int] = {}
        self.full: set[str] = set()
        self.cancelled: set[str] = set()
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
        self.weights = {name: policy.weight for name, policy in fresh.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """The queues that are served."""
        return tuple(self._policies)

    def policy(self, name: str) -> QueuePolicy:
        """The policy of a queue, served or dropped."""
        found = self._policies.get(name) or self._retired.get(name)
        return found if found is not None else QueuePolicy(name, name)

    def _is_needed(self, name: str) -> bool:
        return name in self._polled or any(
            counts.get(name) for counts in (self._in_hand, self._running, self._unsettled)
        )

    def _forget(self, name: str) -> None:
        """Keep nothing of a queue that is served no more."""
        for table in (self._in_hand, self._running, self._unsettled, self._forbidden, self._careful):
            table.pop(name, None)
        self._quiet.discard(name)
        self.full.discard(name)

    def poll_began(self, name: str, count: int, now: float) -> None:
        """A long poll of this queue, for up to ``count`` messages, is open."""
        self._polled.add(name)
        if not self.is_quiet(name):
            self._promised[name] = (now + PROMISED_SECONDS, count)

    def poll_ended(self, name: str, brought: int) -> None:
        """Its long poll has returned."""
        self._polled.discard(name)
        self._promised.pop(name, None)
        if brought:
            self._quiet.discard(name)
        else:
            self._quiet.add(name)

    def is_quiet(self, name: str) -> bool:
        """True for one of several queues if its last poll brought nothing; a new one counts as quiet."""
        return len(self._policies) > 1 and (name in self._quiet or name not in self._in_hand)

    def promised(self, now: float) -> int:
        """How many messages polls of the last moment may still bring from queues that are busy."""
        return sum(count for until, count in self._promised.values() if until > now)

    def is_polled(self, name: str) -> bool:
        """True while a poll of this queue is open."""
        return name in self._polled

    @property
    def any_polled(self) -> bool:
        """True while any poll is open."""
        return bool(self._polled)

    def may_poll(self, now: float) -> list[str]:
        """Served queues with no open poll that are not resting, and of which not too much waits to be settled."""
        return [
            name
            for name in self._policies
            if name not in self._polled
            and self._forbidden.get(name, (0.0, 0.0))[0] <= now
            and self._unsettled.get(name, 0) < UNSETTLED_MOST
        ]

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
            most = min(most, max(0, policy.concurrency + max(0, buffer) - self.in_hand(name)))
        if policy.fifo and (policy.max_receive_count == 1 or self._careful.get(name, 0.0) > now):
            return min(1, most)
        return most

    def forbid(self, name: str, now: float) -> None:
        """Rest this queue, each time longer: taking what cannot be deleted only repeats it."""
        _, last = self._forbidden.get(name, (0.0, 0.0))
        rest = min(FORBIDDEN_MOST_SECONDS, last * 2 or FORBIDDEN_FIRST_SECONDS)
        self._forbidden[name] = (now + rest, rest)

    def refuse(self, name: str, now: float) -> None:
        """A deletion was denied, and is tried again: rest until that has ended, one way or the other."""
        until, last = self._forbidden.get(name, (0.0, 0.0))
        self._forbidden[name] = (max(until, now + FORBIDDEN_FIRST_SECONDS), last)

    def is_resting(self, name: str, now: float) -> bool:
        """True while nothing may be taken of a queue, since it could not be deleted."""
        return self._forbidden.get(name, (0.0, 0.0))[0] > now

    def allow(self, name: str) -> None:
        """A message of it was deleted after all."""
        self._forbidden.pop(name, None)

    @property
    def forbidden(self) -> frozenset[str]:
        """The queues of which the last deletion was refused."""
        return frozenset(self._forbidden)

    def next_allowed(self, now: float) -> float | None:
        """When the next resting queue may be polled again."""
        waits = [until for until, _ in self._forbidden.values() if until > now]
        return min(waits) if waits else None

    def count_in_hand(self, name: str, by: int) -> None:
        """Count a delivery in (+1) or out (-1)."""
        self._in_hand[name] = self._in_hand.get(name, 0) + by
        self.total_in_hand += by

    def count_unsettled(self, name: str, by: int) -> None:
        """Count a delivery that is to be deleted, released or moved (+1), or is (-1)."""
        self._unsettled[name] = self._unsettled.get(name, 0) + by

    def in_hand(self, name: str) -> int:
        """Deliveries of this queue that are not being settled."""
        return self._in_hand.get(name, 0)

    def count_running(self, name: str, by: int) -> None:
        """Count a run in (+1) or out (-1), and mark the queue full at its limit."""
        running = self._running.get(name, 0) + by
        self._running[name] = running
        self.total_running += by
        limit = self.policy(name).concurrency
        if limit is not None and running >= limit:
            self.full.add(name)
        else:
            self.full.discard(name)

    def snapshot(self) -> dict[str, Any]:
        """What each queue has in hand, for people."""
        return {
            name: {
                "logical": policy.logical,
                "polled": name in self._polled,
                "in_hand": self._in_hand.get(name, 0),
                "running": self._running.get(name, 0),
            }
            for name, policy in self._policies.items()
        }
