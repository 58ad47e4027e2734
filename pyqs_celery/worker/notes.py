"""What the core has to say, as Celery's log lines and signals.

Lines and logger names are those that people's alarms look for in Celery's logs.
"""

from __future__ import annotations

import logging
from typing import Any

from pyqs_celery import signals
from pyqs_celery.exceptions import NotRegistered, TimeLimitExceeded, WorkerLostError
from pyqs_celery.utils.text import one_line
from pyqs_celery.wire.message import Head
from pyqs_celery.worker.core.values import Note

consumer_log = logging.getLogger("celery.worker.consumer.consumer")
request_log = logging.getLogger("celery.worker.request")
strategy_log = logging.getLogger("celery.worker.strategy")


class ReceivedTask:
    """What is known of a task before its arguments are read: the ``request`` of signals sent by the consumer.

    Attributes: id, name, eta and expires (epoch seconds), group, argsrepr, kwargsrepr, root_id, parent_id,
    delivery_info, hostname, and ``sqs`` with message_id, queue and receive_count.
    """

    def __init__(self, note: Note, head: Head, hostname: str) -> None:
        headers, delivery = head.raw_headers, note.delivery
        self.id = self.task_id = head.id or delivery.message_id
        self.name = self.task_name = self.task = self.type = head.task
        self.eta, self.expires, self.group = head.eta, head.expires, head.group
        self.argsrepr, self.kwargsrepr = headers.get("argsrepr"), headers.get("kwargsrepr")
        self.root_id, self.parent_id = headers.get("root_id"), headers.get("parent_id")
        self.delivery_info = head.properties.get("delivery_info") or {}
        self.hostname = hostname
        self.request_dict = dict(headers)
        self.sqs = {
            "message_id": delivery.message_id,
            "queue": delivery.queue,
            "receive_count": delivery.receive_count,
        }

    def info(self, safe: bool = False) -> dict[str, Any]:
        """The facts as a dictionary."""
        return {key: value for key, value in vars(self).items() if key != "request_dict"}

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.name}[{self.id}]>"


class Notes:
    """Turns notes into log lines and signals. ``tasks`` is the app's registry, for the senders of signals."""

    def __init__(self, tasks: Any, hostname: str, sender: Any) -> None:
        self._tasks = tasks
        self._hostname = hostname
        self._sender = sender

    def tell(self, note: Note) -> None:
        """Say one."""
        getattr(self, f"_{note.event}", self._other)(note)

    def _request(self, note: Note) -> ReceivedTask:
        return ReceivedTask(note, note.head or Head(2, None, None), self._hostname)

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
                "args": headers.get("argsrepr", ""),
                "kwargs": headers.get("kwargsrepr", ""),
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
        if signals.task_revoked.receivers:
            sender = self._tasks.get(note.head.task) if note.head else None
            signals.task_revoked.send(
                sender=sender, request=self._request(note), terminated=False, signum=None, expired=True
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
        if outcome is None or outcome.exception != "TimeLimitExceeded":
            return
        limit = note.detail.partition("(")[2].partition(",")[0]
        request_log.error("Hard time limit (%ss) exceeded for %s", limit, self._name(note), extra=self._data(note))
        request_log.error("Task handler raised error: %s", note.detail, extra=self._data(note))
        self._send_failure(note, TimeLimitExceeded(float(limit)))

    def _lost(self, note: Note) -> None:
        error = WorkerLostError(f"Worker exited prematurely: {note.detail} Task: {self._name(note)}.")
        request_log.error("Task handler raised error: %r", error, extra=self._data(note))
        self._send_failure(note, error)

    def _send_failure(self, note: Note, error: Exception) -> None:
        if signals.task_failure.receivers:
            request = self._request(note)
            signals.task_failure.send(
                sender=self._tasks.get(request.name),
                task_id=request.id,
                exception=error,
                args=None,
                kwargs=None,
                traceback=None,
                einfo=None,
            )

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
