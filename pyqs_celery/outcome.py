"""What became of one run of one task: the value a child reports and the worker acts on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

OutcomeKind = Literal[
    "succeeded",
    "failed",
    "retried",
    "ignored",
    "rejected",
    "expired",
    "revoked",
    "deferred",
    "unknown",
    "undecodable",
    "unsupported",
]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one delivery, told without the task's return value.

    ``succeeded``    the task returned.
    ``failed``       it raised; ``exhausted`` when its own retries are used up, ``timed_out`` when a
                     time limit ended it.
    ``retried``      the retry message is safely on its queue, so this one is finished; with
                     ``native_delay`` this very message is to come back after so many seconds.
    ``ignored``      the task raised ``Ignore``.
    ``rejected``     the task raised ``Reject``; ``requeue`` as given there.
    ``expired``      found past its ``expires`` by the child (sealed messages only).
    ``revoked``      not run, since somebody has revoked it.
    ``deferred``     found ahead of its ``eta`` by the child (sealed messages only); ``eta`` is set.
    ``unknown``      no such task in this worker's registry.
    ``undecodable``  the arguments cannot be read, or their content type is not accepted.
    ``unsupported``  the message asks for something this version cannot do; it was not run.
    """

    kind: OutcomeKind
    task: str | None = None
    task_id: str | None = None
    reason: str = ""
    exception: str | None = None
    requeue: bool = False
    exhausted: bool = False
    timed_out: bool = False
    runtime_seconds: float = 0.0
    eta: float | None = None
    native_delay: float | None = None
