"""Deliveries of one message that is delivered twice: at most one of them runs to its success.

SQS's standard queues deliver at least once: now and then a message comes again while it is worked on, or after it was
deleted. With ``sqs_deduplicate`` a child claims a task in the result store before it runs it, and marks it as done after its
success. A delivery that finds it done is deleted; one that finds it claimed comes back when that claim ends. A claim whose
process has died on the same machine is taken over at once. A task that fails, or is to be retried by the same message, gives
its claim up.

This helps effects to happen once; it does not promise it: between a task's effect and its mark a process may die, and then the
task runs again.
"""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyqs_celery.exceptions import ImproperlyConfigured
from pyqs_celery.outcome import Outcome
from pyqs_celery.utils.log import Sometimes
from pyqs_celery.utils.text import one_line

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery
    from pyqs_celery.wire.message import TaskMessage

logger = logging.getLogger("celery.worker.request")
OPEN, CLOSED = "open", "closed"
CLAIM_SECONDS = 3600.0
"""How long a claim holds where neither a setting nor a hard time limit says how long the task may take."""
MARGIN_SECONDS = 60.0
"""How much longer than a hard time limit a claim holds."""
REST_SECONDS = 10.0
"""How long a store that could not be asked is left alone where tasks run without it."""
DONE_KEY, CLAIM_KEY = "pyqs-done-{}", "pyqs-claim-{}"


@dataclass(frozen=True, slots=True)
class Claim:
    """A task that this process may run. ``value`` is None where the store is away and tasks run without it."""

    key: str
    value: str | None = None


class Deduplication:
    """The claims of one application. ``backend`` gives its store, which has ``add``, ``get`` and ``delete``."""

    def __init__(
        self,
        backend: Callable[[], Any],
        *,
        mode: str,
        remember_seconds: float,
        claim_seconds: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = backend
        self._mode = mode
        self._remember_seconds = remember_seconds
        self._claim_seconds = claim_seconds
        self._clock = clock
        self._rest_until = 0.0
        self._tell = Sometimes()

    def claim(self, message: TaskMessage, hard_limit: float | None) -> Claim | Outcome:
        """The claim with which the task may run, or what becomes of this delivery without a run."""
        key = f"{message.id}:{message.retries}"
        if self._clock() < self._rest_until:
            return Claim(key)
        try:
            return self._ask(key, message, hard_limit)
        except Exception as exc:  # noqa: BLE001 - each store has errors of its own, and the mode says what they mean
            return self._without_store(exc, key, message)

    def end(self, claim: Claim, outcome: Outcome) -> None:
        """Mark a task as done, or let another delivery have it. The message's fate does not depend on it."""
        if claim.value is None:
            return
        native = outcome.native_delay is not None
        done = outcome.kind in ("succeeded", "ignored") or (outcome.kind == "retried" and not native)
        try:
            if done:
                self._store().add(self._key(DONE_KEY, claim.key), "1", self._remember_seconds)
            self._drop(claim)
        except Exception as exc:  # noqa: BLE001 - as above; a claim that stays ends by itself
            self._say("The store of deduplication did not take that a task has ended, so it may run again", exc)

    def _ask(self, key: str, message: TaskMessage, hard_limit: float | None) -> Claim | Outcome:
        done, claimed = self._key(DONE_KEY, key), self._key(CLAIM_KEY, key)
        if self._store().get(done) is not None:
            return self._is_done(message)
        now = self._clock()
        seconds = self._seconds(hard_limit)
        mine = json.dumps({"by": [_machine(), os.getpid()], "until": now + seconds, "token": uuid.uuid4().hex})
        if not self._store().add(claimed, mine, seconds):
            held = _read(self._store().get(claimed))
            if held is None or not self._take_over(key, held, now) or not self._store().add(claimed, mine, seconds):
                rest = max(1.0, float((held or {}).get("until", now)) - now)
                shown = f"{message.task}[{message.id}]"
                logger.info(
                    "Task %s is being run from another delivery; this one comes back in %ds", shown, math.ceil(rest)
                )
                return Outcome("retried", message.task, message.id, "it runs elsewhere", native_delay=rest)
        claim = Claim(key, mine)
        if self._store().get(done) is not None:  # it was done between the two questions
            self._drop(claim)
            return self._is_done(message)
        return claim

    def _take_over(self, key: str, held: Mapping[str, Any], now: float) -> bool:
        """True if the claim has ended, or its process has; then it is gone, and this process alone has removed it."""
        if float(held.get("until", 0)) > now and not _has_died(held.get("by")):
            return False
        if not self._store().add(self._key(CLAIM_KEY, f"{key}:{held.get('token')}"), "1", self._remember_seconds):
            return False
        self._store().delete(self._key(CLAIM_KEY, key))
        return True

    def _drop(self, claim: Claim) -> None:
        held = self._key(CLAIM_KEY, claim.key)
        if _read(self._store().get(held)) == _read(claim.value):
            self._store().delete(held)

    def _is_done(self, message: TaskMessage) -> Outcome:
        logger.info("Task %s[%s] ignored: another delivery of it has succeeded", message.task, message.id)
        return Outcome("succeeded", message.task, message.id)

    def _without_store(self, exc: Exception, key: str, message: TaskMessage) -> Claim | Outcome:
        if self._mode == OPEN:
            self._rest_until = self._clock() + REST_SECONDS
            self._say("The store of deduplication cannot be asked; tasks run without it", exc)
            return Claim(key)
        self._say("The store of deduplication cannot be asked; tasks wait for it", exc)
        reason = f"the store of deduplication cannot be asked: {type(exc).__name__}"
        return Outcome("retried", message.task, message.id, reason, native_delay=REST_SECONDS)

    def _say(self, sentence: str, exc: Exception) -> None:
        if self._tell(sentence, self._clock()):
            logger.error("%s: %s: %s", sentence, type(exc).__name__, one_line(exc))

    def _seconds(self, hard_limit: float | None) -> float:
        if self._claim_seconds:
            return float(self._claim_seconds)
        return hard_limit + MARGIN_SECONDS if hard_limit else CLAIM_SECONDS

    def _key(self, pattern: str, key: str) -> Any:
        return self._store().key_t(pattern.format(key))


def _machine() -> str:
    """What makes a process id mean one process: the host, and the namespace of its process ids where there is such."""
    try:
        return f"{platform.node()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return platform.node()


def _has_died(by: Any) -> bool:
    if not isinstance(by, list) or len(by) != 2 or by[0] != _machine() or not Path("/proc/self").exists():
        return False
    return not Path(f"/proc/{by[1]}").exists()


def _read(value: Any) -> dict[str, Any] | None:
    try:
        found = json.loads(value) if value is not None else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def check(app: Celery) -> None:
    """Raise ImproperlyConfigured for another value than open or closed, and for a result store without an atomic ``add``."""
    from pyqs_celery.backends.keyvalue import KeyValueStoreBackend

    mode, backend = app.conf.sqs_deduplicate, app.backend
    if mode not in (OPEN, CLOSED):
        raise ImproperlyConfigured(
            f"sqs_deduplicate is {mode!r}; it may be 'open' (tasks run while the store is away) or 'closed' (they wait)"
        )
    if not isinstance(backend, KeyValueStoreBackend) or type(backend).add is KeyValueStoreBackend.add:
        raise ImproperlyConfigured(
            "sqs_deduplicate keeps its claims in the result store, which must be Redis, DynamoDB, S3, memcached or a folder; "
            f"here it is {type(backend).__name__}"
        )


def deduplication(app: Celery) -> Deduplication | None:
    """The one of an application in this process; None unless ``sqs_deduplicate`` asks for it."""
    conf = app.conf
    if not conf.sqs_deduplicate:
        return None
    known: Deduplication | None = vars(app).get("_deduplication")
    if known is None:
        known = vars(app)["_deduplication"] = Deduplication(
            lambda: app.backend,
            mode=conf.sqs_deduplicate,
            remember_seconds=conf.sqs_deduplicate_seconds,
            claim_seconds=conf.sqs_deduplicate_claim_seconds,
        )
    return known
