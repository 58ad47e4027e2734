"""Revoked tasks: marks in the result store, since SQS has no broadcast by which workers could be told.

A mark is a result document under a task id of its own, so that every store can keep it. A flag beside the marks says
when the last one was made: while nobody revokes anything, looking costs a worker's process one read a second. Marks and
flags live as long as results (``result_expires``). A store that cannot be read revokes nothing: the task runs.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyqs_celery.exceptions import ControlUnavailable
from pyqs_celery.utils.log import Sometimes
from pyqs_celery.utils.text import one_line

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery

logger = logging.getLogger("celery.worker.control")
STATE = "REVOCATION"
MARK = "revoked-{}"
FLAG, TERMINATE_FLAG = "revoked-latest", "revoked-latest-terminate"
"""Two flags, so that a revocation need not read, and may not lose, what another is writing."""
FLAG_SECONDS = 1.0
"""How long a process goes by what it last saw of the flag."""
REST_SECONDS = 10.0
"""How long a store that could not be read is left alone, since each of its errors may take a whole time-out."""
TERM = "SIGTERM"


@dataclass(frozen=True, slots=True)
class Mark:
    """A task was revoked at ``at`` (epoch seconds). ``terminate``: end it by ``signal`` if it runs."""

    terminate: bool
    signal: str
    at: float

    @property
    def signum(self) -> int:
        """The signal's number; SIGTERM's for a name that this system does not know."""
        return int(signal.Signals.__members__.get(self.signal, signal.SIGTERM))


class Revocations:
    """The marks of one application as one process writes and sees them. ``backend`` gives its result store."""

    def __init__(self, backend: Callable[[], Any], clock: Callable[[], float] = time.time) -> None:
        self._backend = backend
        self._clock = clock
        self._flag: float | None = None
        self._look_again_at = 0.0
        self._rest_until = 0.0
        self._tell = Sometimes()

    def revoke(self, task_ids: Iterable[str], *, terminate: bool, signal_name: str) -> None:
        """Leave a mark for each task, and then the flag. Raises what the store raises."""
        backend, now = self._backend(), self._clock()
        for task_id in task_ids:
            mark = {"terminate": terminate, "signal": signal_name, "at": now}
            backend.store_result(MARK.format(task_id), mark, STATE)
        for flag in (FLAG, *((TERMINATE_FLAG,) if terminate else ())):
            backend.store_result(flag, {"at": now}, STATE)
        self._look_again_at = 0.0

    def mark_of(self, task_id: str) -> Mark | None:
        """The mark of a task that is about to start."""
        now = self._clock()
        if now >= self._look_again_at:
            self._look_again_at = now + FLAG_SECONDS
            self._flag = _instant(self._read(FLAG, now))
        return self._read_mark(task_id, now) if self._is_young(self._flag, now) else None

    def to_terminate(self, task_ids: Iterable[str]) -> dict[str, Mark]:
        """The marks of those running tasks that are to be ended."""
        now = self._clock()
        if not self._is_young(_instant(self._read(TERMINATE_FLAG, now)), now):
            return {}
        marks = {task_id: self._read_mark(task_id, now) for task_id in task_ids}
        return {task_id: mark for task_id, mark in marks.items() if mark is not None and mark.terminate}

    def _is_young(self, at: float | None, now: float) -> bool:
        if at is None:
            return False
        expires = getattr(self._backend(), "expires", None)
        return not expires or now - at < float(expires)

    def _read_mark(self, task_id: str, now: float) -> Mark | None:
        found = self._read(MARK.format(task_id), now)
        at = _instant(found)
        if at is None:
            return None
        return Mark(bool(found.get("terminate")), str(found.get("signal")), at)

    def _read(self, task_id: str, now: float) -> Any:
        """What a document holds, None if there is none. One try: a task must not wait long for what is seldom there."""
        if now < self._rest_until:
            return None
        try:
            meta = self._backend()._get_task_meta_for(task_id)
            return meta["result"] if meta["status"] == STATE else None
        except Exception as exc:  # noqa: BLE001 - each store has errors of its own; none may stop a worker
            self._rest_until = now + REST_SECONDS
            if self._tell("read", now):
                logger.error(
                    "The result store cannot be read, so revoked tasks are run: %s: %s; trying again in %ds",
                    *(type(exc).__name__, one_line(exc), REST_SECONDS),
                )
            return None


def _instant(document: Any) -> float | None:
    at = document.get("at") if isinstance(document, dict) else None
    return float(at) if isinstance(at, (int, float)) else None


def revocations(app: Celery) -> Revocations | None:
    """The one of an application in this process; None if it keeps no results."""
    from pyqs_celery.backends.disabled import DisabledBackend

    if isinstance(app.backend, DisabledBackend):
        return None
    known: Revocations | None = vars(app).get("_revocations")
    if known is None:
        known = vars(app).setdefault("_revocations", Revocations(lambda: app.backend))
    return known


def mark_of(app: Celery, task_id: str) -> Mark | None:
    """The mark of a task that is about to start; None if it may."""
    known = revocations(app)
    return known.mark_of(task_id) if known is not None else None


def revoke(app: Celery, task_ids: Iterable[str], *, terminate: bool = False, signal_name: Any = None) -> None:
    """Mark tasks as revoked. ``signal_name`` is one like SIGTERM (the default), TERM or 15.

    Raises ControlUnavailable without a result store, ValueError for a signal that does not exist.
    """
    name = signal_called(signal_name)
    known = revocations(app)
    if known is None:
        raise ControlUnavailable(
            "revoke leaves its marks in the result store, since SQS has no broadcast, and this application has none: set "
            "result_backend, or give the task expires="
        )
    known.revoke(task_ids, terminate=terminate, signal_name=name)


def signal_called(wanted: Any) -> str:
    """The full name of a signal given as SIGTERM, TERM, term or 15; None is SIGTERM. Raises ValueError."""
    if wanted is None:
        return TERM
    if isinstance(wanted, int):
        return signal.Signals(wanted).name
    name = str(wanted).upper()
    name = name if name.startswith("SIG") else f"SIG{name}"
    if name not in signal.Signals.__members__:
        raise ValueError(f"there is no signal {wanted!r}")
    return name
