"""The queues being served: which are polled, how much of each is in hand, and which must rest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pyqs_celery.worker.core.values import QueuePolicy

FORBIDDEN_FIRST_SECONDS = 60.0
FORBIDDEN_MOST_SECONDS = 3600.0


class QueueTable:
    """One row for each queue; rows of dropped queues stay until their last delivery is gone."""

    def __init__(self) -> None:
        self._policies: dict[str, QueuePolicy] = {}
        self._retired: dict[str, QueuePolicy] = {}
        self._polled: set[str] = set()
        self._in_hand: dict[str, int] = {}
        self._running: dict[str, int] = {}
        self._forbidden: dict[str, tuple[float, float]] = {}
        self._careful: dict[str, float] = {}
        self.weights: dict[str, int] = {}
        self.full: set[str] = set()
        self.total_in_hand = 0
        self.total_running = 0

    def replace(self, policies: Iterable[QueuePolicy]) -> None:
        """Serve exactly these from now on."""
        fresh = {policy.name: policy for policy in policies}
        for name, policy in self._policies.items():
            if name not in fresh:
                self._retired[name] = policy
        self._policies = fresh
        self.weights = {name: policy.weight for name, policy in fresh.items()}

    def policy(self, name: str) -> QueuePolicy:
        """The policy of a queue, served or dropped."""
        found = self._policies.get(name) or self._retired.get(name)
        return found if found is not None else QueuePolicy(name, name)

    def poll_began(self, name: str) -> None:
        """A long poll of this queue is open."""
        self._polled.add(name)

    def poll_ended(self, name: str) -> None:
        """Its long poll has returned."""
        self._polled.discard(name)

    def is_polled(self, name: str) -> bool:
        """True while a poll of this queue is open."""
        return name in self._polled

    @property
    def any_polled(self) -> bool:
        """True while any poll is open."""
        return bool(self._polled)

    def may_poll(self, now: float) -> list[str]:
        """Served queues with no open poll that are not resting."""
        return [
            name
            for name in self._policies
            if name not in self._polled and self._forbidden.get(name, (0.0, 0.0))[0] <= now
        ]

    def be_careful(self, name: str, until: float) -> None:
        """Take single messages of this FIFO queue for a while: one of them fails.

        A failing message is received with its followers in the group, which go back unrun, and each receipt brings them nearer
        to the dead-letter queue for nothing they did (AWS: FIFO queue delivery logic).
        """
        self._careful[name] = max(until, self._careful.get(name, 0.0))

    def batch_limit(self, name: str, now: float, most: int) -> int:
        """How many messages of a queue may be received at once."""
        policy = self.policy(name)
        if policy.fifo and (policy.max_receive_count == 1 or self._careful.get(name, 0.0) > now):
            return 1
        return most

    def forbid(self, name: str, now: float) -> None:
        """Rest this queue, each time longer: taking what cannot be deleted only repeats it."""
        _, last = self._forbidden.get(name, (0.0, 0.0))
        rest = min(FORBIDDEN_MOST_SECONDS, last * 2 or FORBIDDEN_FIRST_SECONDS)
        self._forbidden[name] = (now + rest, rest)

    def next_allowed(self, now: float) -> float | None:
        """When the next resting queue may be polled again."""
        waits = [until for until, _ in self._forbidden.values() if until > now]
        return min(waits) if waits else None

    def count_in_hand(self, name: str, by: int) -> None:
        """Count a delivery in (+1) or out (-1)."""
        self._in_hand[name] = self._in_hand.get(name, 0) + by
        self.total_in_hand += by

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
