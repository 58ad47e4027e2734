"""A boto3 SQS client's look-alike over a store in this process: ``broker_url = "memory://"`` and fast tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from pyqs_celery.local.actions import Actions
from pyqs_celery.local.errors import ApiError
from pyqs_celery.local.store import Store

_CALLS = {
    "send_message": "SendMessage",
    "send_message_batch": "SendMessageBatch",
    "delete_message": "DeleteMessage",
    "delete_message_batch": "DeleteMessageBatch",
    "change_message_visibility": "ChangeMessageVisibility",
    "change_message_visibility_batch": "ChangeMessageVisibilityBatch",
    "create_queue": "CreateQueue",
    "delete_queue": "DeleteQueue",
    "get_queue_url": "GetQueueUrl",
    "list_queues": "ListQueues",
    "get_queue_attributes": "GetQueueAttributes",
    "set_queue_attributes": "SetQueueAttributes",
    "purge_queue": "PurgeQueue",
    "tag_queue": "TagQueue",
    "untag_queue": "UntagQueue",
    "list_queue_tags": "ListQueueTags",
    "list_dead_letter_source_queues": "ListDeadLetterSourceQueues",
    "start_message_move_task": "StartMessageMoveTask",
    "list_message_move_tasks": "ListMessageMoveTasks",
}


class LocalClient:
    """Methods, arguments, answers and errors of boto3's SQS client, served from memory. Thread-safe."""

    def __init__(self, store: Store | None = None, clock: Callable[[], float] = time.time) -> None:
        self.store = store or Store(clock, endpoint="memory://local")
        self._actions = Actions(self.store)
        self._changed = threading.Condition()

    def __getattr__(self, name: str) -> Callable[..., dict[str, Any]]:
        action = _CALLS.get(name)
        if action is None:
            raise AttributeError(f"the embedded SQS has no {name}")
        return lambda **request: self._call(action, request)

    def _call(self, action: str, request: dict[str, Any]) -> dict[str, Any]:
        with self._changed:
            try:
                answer = self._actions.run(action, request)
            except ApiError as exc:
                raise _client_error(exc, action) from exc
            finally:
                self._changed.notify_all()
        return answer

    def receive_message(self, **request: Any) -> dict[str, Any]:
        """ReceiveMessage; waits up to ``WaitTimeSeconds`` for the first message."""
        with self._changed:
            try:
                queue = self.store.find(request)
                wait = request.get("WaitTimeSeconds")
                wait = queue.number("ReceiveMessageWaitTimeSeconds") if wait is None else wait
                deadline = self.store.clock() + wait
                while True:
                    messages = self.store.receive(queue, request)
                    rest = deadline - self.store.clock()
                    if messages or rest <= 0:
                        return {"Messages": messages} if messages else {}
                    visible = queue.next_visible()
                    if visible is not None:
                        rest = min(rest, max(0.0, visible - self.store.clock()) + 0.001)
                    self._changed.wait(rest)
            except ApiError as exc:
                raise _client_error(exc, "ReceiveMessage") from exc

    def close(self) -> None:
        """Nothing to close; here because boto3's clients have it."""


def _client_error(exc: ApiError, action: str) -> Exception:
    from botocore.exceptions import ClientError

    error: Exception = ClientError(
        {
            "Error": {"Code": exc.query_code, "Message": exc.message},
            "ResponseMetadata": {"HTTPStatusCode": exc.status},
        },
        action,
    )
    return error


_shared: dict[str, LocalClient] = {}
_shared_lock = threading.Lock()


def shared_client(name: str = "default") -> LocalClient:
    """The one client of this name in this process: producers and workers on ``memory://`` meet here."""
    with _shared_lock:
        if name not in _shared:
            _shared[name] = LocalClient()
        return _shared[name]
