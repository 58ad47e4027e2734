"""Results in this process, for tests: ``result_backend = "cache+memory://"``.

A value goes through ``result_serializer`` as it would on the way to a real store. Processes do not see each other's, so it
goes with ``memory://`` queues and the threads pool.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from kombu.exceptions import EncodeError
from kombu.serialization import dumps, loads, prepare_accept_content

from pyqs_celery import states
from pyqs_celery.exceptions import TimeoutError as ResultTimeout

_STORES: dict[str, dict[str, dict[str, Any]]] = {}
_changed = threading.Condition()


class MemoryBackend:
    """Result documents by task id, shared by all applications of the process that use one URL."""

    supports_autoexpire = True

    def __init__(self, app: Any, url: str = "cache+memory://") -> None:
        self.app = app
        self._store = _STORES.setdefault(url, {})

    def store_result(
        self, task_id: str, result: Any, state: str, traceback: str | None = None, request: Any = None, **kwargs: Any
    ) -> Any:
        """Keep a result. Raises kombu's EncodeError for a value that ``result_serializer`` does not take."""
        value = result if isinstance(result, BaseException) else self._through_serializer(task_id, result)
        with _changed:
            known = self._store.get(task_id)
            if known is not None and known["status"] == states.SUCCESS:
                return result  # a later delivery of the same task does not undo a success
            self._store[task_id] = {"status": state, "result": value, "traceback": traceback, "task_id": task_id}
            _changed.notify_all()
        return result

    def _through_serializer(self, task_id: str, value: Any) -> Any:
        conf = self.app.conf
        try:
            content_type, encoding, data = dumps(value, serializer=conf.result_serializer)
        except EncodeError as exc:
            raise EncodeError(f"the result of task {task_id} cannot be serialised: {exc}") from exc
        return loads(data, content_type, encoding, accept=prepare_accept_content([content_type]))

    def get_task_meta(self, task_id: str) -> dict[str, Any]:
        """A task's document; PENDING for one that is not known."""
        with _changed:
            return dict(self._store.get(task_id) or {"status": states.PENDING, "result": None, "traceback": None})

    def get_state(self, task_id: str) -> str:
        """A task's state."""
        return str(self.get_task_meta(task_id)["status"])

    def get_result(self, task_id: str) -> Any:
        """A task's value, or its exception."""
        return self.get_task_meta(task_id)["result"]

    def get_traceback(self, task_id: str) -> str | None:
        """A failed task's traceback as text."""
        found: str | None = self.get_task_meta(task_id)["traceback"]
        return found

    def wait_for(self, task_id: str, timeout: float | None = None, propagate: bool = True, **kwargs: Any) -> Any:
        """Wait for the task's end and give its value. Raises its exception (``propagate``) or Celery's TimeoutError."""
        until = None if timeout is None else time.monotonic() + timeout
        with _changed:
            while self._store.get(task_id, {}).get("status") not in states.READY_STATES:
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    raise ResultTimeout("The operation timed out.")
                _changed.wait(left)
            meta = self._store[task_id]
        if meta["status"] in states.PROPAGATE_STATES and propagate:
            raise meta["result"]
        return meta["result"]

    def forget(self, task_id: str) -> None:
        """Drop a task's document."""
        with _changed:
            self._store.pop(task_id, None)
