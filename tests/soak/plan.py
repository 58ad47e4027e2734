"""What a soak consists of: its queues, the shares of its traffic, and what each kind of task is meant to come to."""

from __future__ import annotations

from dataclasses import dataclass

LEASE_SECONDS = 12
"""Of receipts, and the visibility timeout of most queues."""
FAIL_SECONDS = 3
"""The visibility timeout of queues for what fails: how soon it comes back. Leases are not cut short by it."""
WORK_QUEUES = ("soak-work-1", "soak-work-2", "soak-work-3", "soak-mail-a", "soak-mail-b")
FIFO_QUEUES = ("soak-order-1.fifo", "soak-order-2.fifo")
GROUPS = 40
LONGEST_COUNTDOWN = 30.0


@dataclass(frozen=True)
class Queue:
    """A queue of the soak. ``most`` receipts, then SQS moves a message away; 0: no redrive policy, the worker moves it."""

    name: str
    visibility: int
    most: int


def letters_of(queue: str) -> str:
    """Its dead-letter queue."""
    stem, fifo = queue.removesuffix(".fifo"), ".fifo" if queue.endswith(".fifo") else ""
    return f"{stem}-dlq{fifo}"


QUEUES = (
    *(Queue(name, LEASE_SECONDS, 12) for name in WORK_QUEUES),
    Queue("soak-order-1.fifo", LEASE_SECONDS, 12),
    Queue("soak-order-2.fifo", FAIL_SECONDS, 5),
    Queue("soak-fail", FAIL_SECONDS, 3),
    Queue("soak-own", FAIL_SECONDS, 0),
    Queue("soak-kill", FAIL_SECONDS, 3),
    Queue("soak-deploy", LEASE_SECONDS, 20),
)
STEADY_QUEUES = (
    "soak-work-1,soak-work-2,soak-work-3,soak.mail.*,soak-order-1.fifo,soak-order-2.fifo,soak-fail,soak-own,soak-deploy"
)
"""What the steady worker serves: all but what kills its processes. ``soak.mail.*`` is a pattern."""
ALL_QUEUES = f"{STEADY_QUEUES},soak-kill"

SHARES = {
    "nothing": 480,
    "nap": 120,
    "doze": 4,
    "late": 40,
    "late_celery": 30,
    "brief": 20,
    "expired": 10,
    "flaky": 30,
    "returning": 20,
    "hopeless": 5,
    "refusing": 3,
    "garbage": 3,
    "killer": 2,
    "spawning": 20,
    "fresh": 3,
    "retired": 3,
    "chord": 10,
    "chain": 15,
    "ordered": 180,
}
"""How often each kind of call is made, of about a thousand. A message in a hundred is poison."""

DEAD_LETTERED = frozenset({"hopeless", "refusing", "garbage", "killer"})
"""Kinds that can only end in a dead-letter queue."""
MAY_EXPIRE = frozenset({"brief"})
