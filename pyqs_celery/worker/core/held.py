"""One delivery in the worker's hands, and the states it goes through.

::

    received --admitted--> deferred --due--> ready --dispatched--> running --outcome--> settling --> gone
        |                     |                |                      |                    ^
        +---------------------+----------------+----------------------+--------------------+ released, moved or acked
        |                     |                |                      |                    |
        +- expired -----------|----------------|----------------------+- lost -> unrecorded (running again) -> as decided
        |                     |                |
        +---------------------+----------------+--- lease lost before it was started: gone

``received`` is brief for standard queues; on a FIFO queue a delivery stays ``received`` until it is the first of its
group. ``unrecorded`` is a delivery whose process died for good, or one that has expired where results are kept. It keeps
its lease and its place in its group until an idle child takes it, which records that: ``running`` again, with a ``fault``.
Then its ``fate``, decided before, is carried out. A delivery is in exactly one state, and only ``engine.py`` and
``ledger.py`` change it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pyqs_celery.broker.delivery import Delivery
from pyqs_celery.wire.message import Head
from pyqs_celery.worker.core.deferral import Plan, plan
from pyqs_celery.worker.core.disposition import Verdict
from pyqs_celery.worker.core.values import Ack, DeadLetter, Fault, Hop, KillReason, QueuePolicy, Release, TaskPolicy

State = Literal["received", "deferred", "ready", "running", "unrecorded", "settling", "gone"]
Settlement = Ack | Release | Hop | DeadLetter

UNSTARTED: frozenset[State] = frozenset({"received", "deferred", "ready"})


@dataclass(slots=True)
class Held:
    """The engine's record of one delivery. Instants are epoch seconds."""

    tag: int
    delivery: Delivery
    queue: QueuePolicy
    lease_until: float
    held_since: float
    state: State = "received"
    head: Head | None = None
    policy: TaskPolicy | None = None
    slot: int | None = None
    stuck: bool = False
    """It waits for its FIFO group, or holds its group up until its ETA."""
    has_turn: bool = False
    due_at: float = 0.0
    started_at: float = 0.0
    kill_at: float | None = None
    hard_limit: float = 0.0
    killed_for: KillReason | None = None
    kill_signum: int = 0
    fault: Fault | None = None
    fate: Verdict | None = None
    acked_early: bool = False
    waits_for_ack: bool = False
    extending: bool = False
    asked_at: float = 0.0
    lease_lost: bool = False
    settlement: Settlement | None = None

    @property
    def unstarted(self) -> bool:
        """True while no child has seen it."""
        return self.state in UNSTARTED

    @property
    def task_id(self) -> str:
        """The task's id; a task without one goes by its message's."""
        return (self.head.id if self.head is not None else None) or self.delivery.message_id

    @property
    def keeps_lease(self) -> bool:
        """True while losing the lease would do harm."""
        if self.state == "gone" or self.lease_lost or (self.acked_early and self.settlement is None):
            return False
        return not isinstance(self.settlement, Release)

    def plan(self, eta: float, now: float, hold_horizon: float) -> Plan | None:
        """How to wait for ``eta``; None if it is due."""
        return plan(
            eta,
            now,
            fifo=self.queue.fifo,
            receive_count=self.delivery.receive_count,
            max_receive_count=self.queue.max_receive_count,
            hold_horizon=hold_horizon,
        )

    @property
    def group(self) -> tuple[str, str] | None:
        """The FIFO group it is ordered in, or None on a standard queue."""
        if not self.queue.fifo:
            return None
        return (self.queue.name, self.delivery.group_id or "")
