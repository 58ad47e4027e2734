"""The words the worker's core is spoken to in: what may happen, and what it asks to be done.

A *tag* is the core's own number for one delivery it holds. A *slot* is a place for a child; slots
are numbered from 0. ``now`` and all instants are epoch seconds, durations are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pyqs_celery.broker.delivery import Delivery
from pyqs_celery.outcome import Outcome
from pyqs_celery.wire.message import Head

StopMode = Literal["warm", "soft", "cold"]
"""warm: running tasks may finish (deadline: ``shutdown_timeout``); soft: they get
``worker_soft_shutdown_timeout``; cold: they are stopped at once. In all, their messages go back."""
KillReason = Literal["hard time limit", "shutdown", "revoked"]


@dataclass(frozen=True, slots=True)
class TaskPolicy:
    """How deliveries of one task are treated; worked out from its attributes and the settings."""

    known: bool = True
    importable: bool = False
    acks_late: bool = True
    ack_on_failure: bool = False
    ack_on_timeout: bool = False
    reject_on_worker_lost: bool = True
    hard_time_limit: float | None = None
    soft_time_limit: float | None = None
    rate_limit: float | None = None
    """Starts a second, in this worker."""


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """How one queue is served.

    ``dead_letter_queue`` is where the worker itself moves what can never succeed: an SQS name, or
    None where moving is forbidden. ``max_receive_count`` is the queue's own redrive limit, if any.
    ``backoff`` maps a receive count to the delay after that failed delivery; the last entry holds
    for all later ones. ``concurrency`` limits how many slots its tasks may use at once. As long as
    a queue of a higher ``rank`` has messages, none of a lower one is begun; among equals ``weight`` gives turns.
    """

    name: str
    logical: str
    fifo: bool = False
    lease_seconds: float = 60.0
    visibility_timeout_seconds: float = 30.0
    max_receive_count: int | None = None
    dead_letter_queue: str | None = None
    max_deliveries: int = 5
    backoff: Mapping[int, float] = field(default_factory=dict)
    backoff_tasks: frozenset[str] = frozenset()
    concurrency: int | None = None
    weight: int = 1
    rank: int = 0


@dataclass(frozen=True, slots=True)
class StopTimes:
    """How long a stop gives running tasks, in seconds."""

    shutdown_timeout: float = 25.0
    soft_shutdown_timeout: float = 0.0

    def stop_seconds(self, mode: StopMode) -> float:
        """How long running tasks get when the worker stops so."""
        return {"warm": self.shutdown_timeout, "soft": self.soft_shutdown_timeout, "cold": 0.0}[mode]


@dataclass(frozen=True, slots=True)
class CoreConfig(StopTimes):
    """Numbers the core decides by. Defaults are the settings' defaults."""

    concurrency: int = 1
    prefetch_multiplier: int | None = None
    """None: adaptive. 1: nothing beyond the free slots. N: up to N times the slots. 0: no limit but
    ``max_held``."""
    max_held: int = 1000
    open_polls: int | None = None
    """How many queues are asked at once at most; None: all."""
    simple: bool = False
    """PyQS's --simple-worker: fetch one message at a time, and only for a free slot."""
    ack_before_run_waits: bool = False
    max_lease_seconds: float = 12 * 3600 - 300
    hold_horizon_seconds: float = 2.0
    reject_delay_seconds: float = 10.0
    keeps_results: bool = False
    """True if a task that has expired must be recorded, which takes a child."""


# --- what the core asks for -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Poll:
    """Receive up to ``count`` messages from ``queue``; exactly one answer by ``on_polled``.

    ``extra``: without waiting, beside the long poll that is open.
    """

    queue: str
    count: int
    extra: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """How a task ended without a child to tell of it; the child that is given this records it and does not run the task.

    ``exception`` is what is recorded. ``detail`` are the manager's words for a process that was lost, the limit in
    seconds, the number of the signal, or ``expired``.
    """

    exception: Literal["WorkerLostError", "TimeLimitExceeded", "Terminated", "TaskRevokedError"]
    detail: str


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Give the delivery ``tag`` to the idle child in ``slot``.

    ``last`` tells the child that a failure now is final (errbacks fire only then), ``last_timeout`` the same of a soft
    time-out. With a ``fault`` there is nothing to run, only that to record.
    """

    slot: int
    tag: int
    delivery: Delivery
    head: Head
    last: bool
    last_timeout: bool
    hard_time_limit: float | None = None
    soft_time_limit: float | None = None
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Ack:
    """Delete the message. ``waited_for``: a child does not begin before that is done."""

    tag: int
    delivery: Delivery
    waited_for: bool = False


@dataclass(frozen=True, slots=True)
class Release:
    """Make the message visible again after ``delay_seconds`` (whole seconds, 0 to 43,200)."""

    tag: int
    delivery: Delivery
    delay_seconds: int


@dataclass(frozen=True, slots=True)
class Hop:
    """Send a copy with ``delay_seconds`` (0 to 900), then delete this one."""

    tag: int
    delivery: Delivery
    delay_seconds: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Send the body byte for byte to ``target`` with the reason as attributes, then delete.

    ``else_delay_seconds`` is how long to hide the message if the move is refused.
    """

    tag: int
    delivery: Delivery
    target: str
    reason: str
    exception: str | None
    else_delay_seconds: int


@dataclass(frozen=True, slots=True)
class Extend:
    """Renew the leases of these deliveries of one queue for ``seconds`` from now."""

    queue: str
    seconds: int
    tags: tuple[int, ...]
    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True)
class Kill:
    """End the child in ``slot`` by force; ``on_slot_lost`` follows. ``signum``: by this signal first, None: SIGKILL."""

    slot: int
    reason: KillReason
    signum: int | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """Something a person or a signal receiver is told; the shell turns it into logs and signals.

    Events: ``received``, ``expired``, ``revoked``, ``unknown``, ``undecodable``, ``failed``, ``deferred``,
    ``lost`` (child died), ``terminating`` (it is about to be ended on request) and ``terminated``, ``lease_lost``,
    ``lease_limit``, ``released``, ``dead_lettered``, ``repeated`` (settling failed, the task will run again).
    """

    event: str
    delivery: Delivery
    head: Head | None = None
    detail: str = ""
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """Everything is settled after a stop; the consumer may leave."""


Action = Poll | Dispatch | Ack | Release | Hop | DeadLetter | Extend | Kill | Note | Done


# --- what the core is told --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Settled:
    """The end of an Ack, Release, Hop or DeadLetter.

    ``ok`` False means it was given up: the message will be seen again. ``forbidden`` marks a queue on
    which we lack the permission to delete.
    """

    tag: int
    ok: bool
    detail: str = ""
    forbidden: bool = False


@dataclass(frozen=True, slots=True)
class Extended:
    """The end of one lease extension. ``lost`` True: the lease is gone, not merely unreachable; ``gone``: so is the message."""

    tag: int
    ok: bool
    lost: bool = False
    gone: bool = False
    detail: str = ""


Tags = Sequence[int]
