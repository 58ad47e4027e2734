"""Renews leases: what the core asks for becomes ChangeMessageVisibilityBatch requests in threads of their own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from pyqs_celery.broker.client import EntryError, SqsClient
from pyqs_celery.broker.delivery import QueueInfo
from pyqs_celery.exceptions import BrokerError
from pyqs_celery.utils.log import Troubles
from pyqs_celery.worker.core.values import Extend, Extended
from pyqs_celery.worker.io import IoThreads

logger = logging.getLogger("celery.worker.consumer.consumer")


class Keeper:
    """Makes the requests; ``extended`` is called with their ends in the loop's thread."""

    def __init__(
        self,
        client: SqsClient,
        queue: Callable[[str], QueueInfo],
        threads: IoThreads,
        extended: Callable[[list[Extended], float], None],
    ) -> None:
        self._client = client
        self._queue = queue
        self._threads = threads
        self._extended = extended
        self._troubles = Troubles()

    def extend(self, action: Extend) -> None:
        """Renew the leases of up to ten deliveries of one queue."""
        queue = self._queue(action.queue)
        self._threads.ask(
            lambda: self._ask(queue, action),
            self._extended,
            key=action.queue,
            hung=lambda: [Extended(tag, ok=False, detail="no answer came") for tag in action.tags],
        )

    def _ask(self, queue: QueueInfo, action: Extend) -> list[Extended]:
        handles = {
            str(tag): delivery.receipt_handle for tag, delivery in zip(action.tags, action.deliveries, strict=True)
        }
        try:
            result = self._client.change_visibility_batch(
                queue, [(tag, handle, action.seconds) for tag, handle in handles.items()]
            )
        except BrokerError as exc:
            named = self._troubles.began(type(exc), queue.name, time.monotonic())
            if named is not None:
                logger.error("Queue %s: leases could not be renewed: %s; trying again", named, exc)
            return [Extended(int(tag), ok=False, detail=str(exc)) for tag in handles]
        errors = {tag: result.error(tag) for tag in handles}
        return [
            Extended(int(tag), ok=True) if error is None else _failure(int(tag), error) for tag, error in errors.items()
        ]


def _failure(tag: int, error: EntryError) -> Extended:
    """SQS calls a lease that ran out MessageNotInflight, and a message that is not there an invalid value."""
    gone = error.lost and error.code.startswith("InvalidParameterValue")
    return Extended(tag, ok=False, lost=error.lost, gone=gone, detail=error.message)
