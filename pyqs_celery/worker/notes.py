"""What the core has to say, as Celery's log lines and signals.

Lines and logger names are those that people's alarms look for in Celery's logs.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from typing import Any

from pyqs_celery import signals
from pyqs_celery.app.task import Task
from pyqs_celery.exceptions import NotRegistered, TimeLimitExceeded
from pyqs_celery.utils.einfo import ExceptionInfo
from pyqs_celery.utils.text import one_line
from pyqs_celery.wire.envelope import described
from pyqs_celery.wire.message import Head
from pyqs_celery.worker.core.values import Fault, Note
from pyqs_celery.worker.faults import exception_of
from pyqs_celery.worker.request import Request, request_class

consumer_log = logging.getLogger("celery.worker.consumer.consumer")
control_log = logging.getLogger("celery.worker.control")
request_log = logging.getLogger("celery.worker.request")
strategy_log = logging.getLogger("celery.worker.strategy")


class Notes:
    """Turns notes into log lines and signals. ``sender`` is the consumer, for receivers of signals."""

    def __init__(self, app: Any, hostname: str, sender: Any) -> None:
        self._app = app
        self._tasks = app.tasks
        self._hostname = hostname
        self._sender = sender

    def tell(self, note: Note) -> None:
        """Say one."""
        getattr(self, f"_{note.event}", self._other)(note)

    def _request(self, note: Note) -> Request:
        head = note.head or Head(2, None, None)
        task = self._tasks.get(head.task) if head.task else None
        facts = {"head": head, "task": task, "app": self._app, "hostname": self._hostname}
        try:
            return request_class(task)(note.delivery, **facts)
        except Exception:  # noqa: BLE001 - a Request class of the user's must not stop the consumer
            request_log.exception("Task %s: its Request class raised", self._name(note))
            return Request(note.delivery, **facts)

    def _hook(self, note: Note, hook: Callable[[Request], Any]) -> None:
        """Call a hook of the task's own Request class, if it has one."""
        task = self._tasks.get(note.head.task) if note.head and note.head.task else None
        if task is None or request_class(task) is Request:
            return
        try:
            hook(self._request(note))
        except Exception:  # noqa: BLE001 - nor must its hooks
            request_log.exception("Task %s: its Request class raised", self._name(note))

    def _name(self, note: Note) -> str:
        head, outcome = note.head, note.outcome
        name = (head.task if head else None) or (outcome.task if outcome else None) or "?"
        return f"{one_line(name)}[{one_line((head.id if head else None) or note.delivery.message_id)}]"

    def _data(self, note: Note) -> dict[str, Any]:
        headers = note.head.raw_headers if note.head else {}
        return {
            "data": {
                "id": note.head.id if note.head else None,
                "name": note.head.task if note.head else None,
                "args": described(headers.get("argsrepr")) or "",
                "kwargs": described(headers.get("kwargsrepr")) or "",
                "hostname": self._hostname,
                "queue": note.delivery.queue,
            }
        }

    def _received(self, note: Note) -> None:
        if strategy_log.isEnabledFor(logging.INFO):
            strategy_log.info("Task %s received", self._name(note), extra=self._data(note))
        if signals.task_received.receivers:
            signals.task_received.send(sender=self._sender, request=self._request(note))

    def _expired(self, note: Note) -> None:
        request_log.info("Discarding revoked task: %s (it has expired)", self._name(note), extra=self._data(note))
        self._send_revoked(note, expired=True)

    def _revoked(self, note: Note) -> None:
        request_log.info("Discarding revoked task: %s", self._name(note), extra=self._data(note))
        self._send_revoked(note)

    def _terminating(self, note: Note) -> None:
        number = signal.Signals(int(note.detail))
        task_id = one_line((note.head.id if note.head else None) or note.delivery.message_id)
        control_log.info("Terminating %s (Signals.%s)", task_id, number.name)

    def _terminated(self, note: Note) -> None:
        self._send_revoked(note, signum=signal.Signals(int(note.detail)))

    def _send_revoked(self, note: Note, *, signum: signal.Signals | None = None, expired: bool = False) -> None:
        if signals.task_revoked.receivers:
            sender = self._tasks.get(note.head.task) if note.head else None
            signals.task_revoked.send(
                sender=sender,
                request=self._request(note),
                terminated=signum is not None,
                signum=signum,
                expired=expired,
            )

    def _unknown(self, note: Note) -> None:
        name = one_line(note.detail or (note.head.task if note.head else "") or "?")
        if note.outcome is not None and note.outcome.kind == "unsupported":
            consumer_log.error("Task %s was not run: %s. It stays on the queue.", self._name(note), name)
            return
        consumer_log.error(
            "Received unregistered task of type '%s'. It stays on queue %s for a worker that knows it; did you remember to "
            "import the module containing this task? (message %s)",
            *(name, note.delivery.queue, note.delivery.message_id),
        )
        if signals.task_unknown.receivers:
            request = self._request(note)
            error = NotRegistered(name)
            signals.task_unknown.send(sender=self._sender, message=note.delivery, exc=error, name=name, id=request.id)

    def _undecodable(self, note: Note) -> None:
        consumer_log.critical(
            "Can't decode message body: %s (message %s on queue %s, %d bytes)",
            *(one_line(note.detail), note.delivery.message_id, note.delivery.queue, len(note.delivery.body)),
        )
        signals.task_rejected.send(sender=self._sender, message=note.delivery, exc=note.detail)

    def _failed(self, note: Note) -> None:
        """The child has told of its own failures; only a hard time limit is ours to tell."""
        outcome = note.outcome
        if outcome is not None and outcome.exception == "SoftTimeLimitExceeded":
            self._hook(note, lambda request: request.on_timeout(True, _limit(note, 1)))
        if outcome is None or outcome.exception != "TimeLimitExceeded":
            return
        limit = note.detail.partition("(")[2].partition(",")[0]
        request_log.error("Hard time limit (%ss) exceeded for %s", limit, self._name(note), extra=self._data(note))
        request_log.error("Task handler raised error: %s", note.detail, extra=self._data(note))
        self._hook(note, lambda request: request.on_timeout(False, float(limit)))
        self._send_failure(note, TimeLimitExceeded(float(limit)))

    def _lost(self, note: Note) -> None:
        error = exception_of(Fault("WorkerLostError", note.detail), self._name(note))
        request_log.error("Task handler raised error: %r", error, extra=self._data(note))
        self._send_failure(note, error)

    def _send_failure(self, note: Note, error: Exception) -> None:
        einfo = ExceptionInfo(error)
        self._hook(note, lambda request: request.on_failure(einfo, send_failed_event=False, return_ok=True))
        self._call_on_failure(note, error, einfo)
        if signals.task_failure.receivers:
            request = self._request(note)
            signals.task_failure.send(
                sender=self._tasks.get(request.name),
                task_id=request.id,
                exception=error,
                args=None,
                kwargs=None,
                traceback=einfo.traceback,
                einfo=einfo,
            )

    def _call_on_failure(self, note: Note, error: Exception, einfo: ExceptionInfo) -> None:
        """The task's own hook, as Celery 5.7 calls it for a task whose process was killed; arguments are not known here."""
        task = self._tasks.get(note.head.task) if note.head and note.head.task else None
        if task is None or type(task).on_failure is Task.on_failure:
            return
        request = self._request(note)
        try:
            task.on_failure(error, request.id, (), {}, einfo)
        except Exception:  # noqa: BLE001 - as in a child: told, and without effect
            request_log.exception("Task %s: on_failure raised", self._name(note))

    def _deferred(self, note: Note) -> None:
        consumer_log.debug("Task %s waits for its ETA: %s s", self._name(note), note.detail)

    def _lease_lost(self, note: Note) -> None:
        consumer_log.warning("Task %s: its lease was lost: %s", self._name(note), one_line(note.detail))

    def _lease_limit(self, note: Note) -> None:
        consumer_log.warning(
            "Task %s has been held for nearly 12 hours, SQS's limit: its message will be visible again after that",
            self._name(note),
        )

    def _repeated(self, note: Note) -> None:
        consumer_log.warning(
            "Task %s will be seen again: %s (message %s)",
            *(self._name(note), one_line(note.detail), note.delivery.message_id),
        )

    def _dead_lettered(self, note: Note) -> None:
        consumer_log.error(
            "Task %s: message %s was moved to %s",
            *(self._name(note), note.delivery.message_id, note.detail),
        )

    def _other(self, note: Note) -> None:
        consumer_log.info("Task %s: %s %s", self._name(note), note.event, one_line(note.detail))


def _limit(note: Note, index: int) -> float:
    """The hard (0) or soft (1) limit that the message or its task names, in seconds; 0 if only the worker's own holds."""
    limits = note.head.timelimit if note.head is not None else (None, None)
    return float(limits[index] or 0)
