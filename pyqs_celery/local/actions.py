"""The table from SQS's action names to what the store does."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from pyqs_celery.local.errors import ApiError, invalid
from pyqs_celery.local.store import Request, Store, list_page, redrive_sources

Answer = dict[str, Any]


class Actions:
    """Every action but the waiting part of ReceiveMessage; ``run`` looks one up by its name in the API."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._moves: dict[str, dict[str, Any]] = {}
        self._table: dict[str, Callable[[Request], Answer | None]] = {
            "SendMessage": lambda r: store.send(store.find(r), r),
            "SendMessageBatch": lambda r: store.batch(r, lambda e: store.send(store.find(r), e), True),
            "DeleteMessage": lambda r: store.delete(store.find(r), r.get("ReceiptHandle") or ""),
            "DeleteMessageBatch": lambda r: store.batch(
                r, lambda e: store.delete(store.find(r), e.get("ReceiptHandle") or ""), False
            ),
            "ChangeMessageVisibility": self._visibility,
            "ChangeMessageVisibilityBatch": lambda r: store.batch(
                r, lambda e: self._visibility({**e, "QueueUrl": r.get("QueueUrl")}), False
            ),
            "CreateQueue": lambda r: {"QueueUrl": store.url(store.create(r))},
            "DeleteQueue": lambda r: store.drop_queue(store.find(r)),
            "GetQueueUrl": lambda r: {"QueueUrl": store.url(store.named(r.get("QueueName") or ""))},
            "ListQueues": self._list,
            "GetQueueAttributes": self._attributes,
            "SetQueueAttributes": self._set_attributes,
            "PurgeQueue": lambda r: store.purge(store.find(r)),
            "TagQueue": lambda r: store.find(r).tags.update(r.get("Tags") or {}),
            "UntagQueue": self._untag,
            "ListQueueTags": lambda r: {"Tags": store.find(r).tags},
            "ListDeadLetterSourceQueues": lambda r: {
                "queueUrls": [store.url(q) for q in redrive_sources(store, store.find(r))]
            },
            "StartMessageMoveTask": self._start_move,
            "ListMessageMoveTasks": lambda r: {
                "Results": [t for t in self._moves.values() if t["SourceArn"] == r.get("SourceArn")]
            },
        }

    def run(self, action: str, request: Request) -> Answer:
        """The answer to a request. Raises ApiError."""
        found = self._table.get(action)
        if found is None:
            raise ApiError("UnsupportedOperation", f"{action} is not supported by the embedded SQS.")
        return found(request) or {}

    def _visibility(self, request: Request) -> None:
        queue = self.store.find(request)
        self.store.change_visibility(queue, request.get("ReceiptHandle") or "", request.get("VisibilityTimeout"))

    def _list(self, request: Request) -> Answer:
        names, token = list_page(list(self.store.queues), request)
        answer: Answer = {"QueueUrls": [self.store.url(self.store.queues[name]) for name in names]} if names else {}
        return answer | ({"NextToken": token} if token else {})

    def _attributes(self, request: Request) -> Answer:
        all_of_them = self.store.described(self.store.find(request))
        names = request.get("AttributeNames") or []
        chosen = all_of_them if "All" in names else {k: v for k, v in all_of_them.items() if k in names}
        return {"Attributes": chosen} if chosen else {}

    def _set_attributes(self, request: Request) -> None:
        queue = self.store.find(request)
        for name, value in (request.get("Attributes") or {}).items():
            if value == "":
                queue.attributes.pop(name, None)
            else:
                queue.attributes[name] = str(value)
        if self.store.journal is not None:
            self.store.journal.queue_saved(queue)

    def _untag(self, request: Request) -> None:
        tags = self.store.find(request).tags
        for key in request.get("TagKeys") or []:
            tags.pop(key, None)

    def _start_move(self, request: Request) -> Answer:
        source_arn = request.get("SourceArn") or ""
        source = self.store.queues.get(source_arn.rsplit(":", 1)[-1])
        if source is None:
            raise ApiError("ResourceNotFoundException", "The queue of SourceArn doesn't exist.", 404)
        if not redrive_sources(self.store, source):
            raise invalid("Source queue must be configured as a dead-letter queue.")
        self.store.refresh(source)
        moved = 0
        for message in list(source.ready):
            name = (request.get("DestinationArn") or message.source_arn or "").rsplit(":", 1)[-1]
            target = self.store.queues.get(name)
            if target is not None:
                source.ready.remove(message)
                message.source_arn = None
                self.store.move(message, target)
                moved += 1
        handle = base64.b64encode(json.dumps({"taskId": str(uuid4()), "sourceArn": source.arn}).encode()).decode()
        self._moves[handle] = {
            "TaskHandle": handle,
            "Status": "COMPLETED",
            "SourceArn": source.arn,
            "ApproximateNumberOfMessagesMoved": moved,
            "ApproximateNumberOfMessagesToMove": moved,
            "StartedTimestamp": int(self.store.clock() * 1000),
        }
        return {"TaskHandle": handle}
