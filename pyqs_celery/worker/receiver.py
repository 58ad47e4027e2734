"""One queue's long polls, one at a time, in a thread of their own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from pyqs_celery.broker.client import SqsClient
from pyqs_celery.broker.delivery import Delivery, QueueInfo
from pyqs_celery.exceptions import BrokerError, BrokerUnavailable
from pyqs_celery.utils.backoff import backoff
from pyqs_celery.utils.log import Sometimes

logger = logging.getLogger("celery.worker.consumer.consumer")
RESET_AFTER = 3
"""Failures in a row to reach SQS after which the client is made anew."""

Polled = Callable[[str, list[Delivery], BrokerError | None], None]


class Receiver:
    """Receives when asked. ``on_polled(queue, deliveries, error)`` is called from its thread, once for each ask.

    ``lease_seconds`` is the visibility timeout that each receipt gets, ``wait_seconds`` how long a poll waits.
    """

    def __init__(
        self, client: SqsClient, queue: QueueInfo, *, lease_seconds: int, wait_seconds: int, on_polled: Polled
    ) -> None:
        self.queue = queue
        self.lease_seconds = lease_seconds
        self._client = client
        self._wait_seconds = wait_seconds
        self._on_polled = on_polled
        self._asked: SimpleQueue[int | None] = SimpleQueue()
        self._stopped = threading.Event()
        self._failures = 0
        self._tell = Sometimes()
        self._thread = threading.Thread(target=self._run, name=f"receiver-{queue.name}", daemon=True)
        self._thread.start()

    def poll(self, count: int) -> None:
        """Ask for up to ``count`` messages."""
        self._asked.put(count)

    def stop(self) -> None:
        """No more waiting between failures; a poll that is open still returns."""
        self._stopped.set()

    def close(self) -> None:
        """Let the thread end."""
        self._stopped.set()
        self._asked.put(None)

    def _run(self) -> None:
        while True:
            count = self._asked.get()
            if count is None:
                return
            self.poll_once(count)

    def poll_once(self, count: int) -> None:
        """One ReceiveMessage and its report; after a failure the report waits, so that nobody asks again at once."""
        try:
            deliveries = self._client.receive(
                self.queue,
                count=count,
                wait_seconds=0 if self._stopped.is_set() else self._wait_seconds,
                visibility_seconds=self.lease_seconds,
                clock=time.time,
            )
        except BrokerError as exc:
            self._failed(exc)
            return
        if self._failures:
            logger.info("Queue %s: receiving again", self.queue.name)
        self._failures = 0
        self._on_polled(self.queue.name, deliveries, None)

    def _failed(self, exc: BrokerError) -> None:
        self._failures += 1
        if self._tell(type(exc), time.monotonic()):
            logger.error("Queue %s: %s; trying again", self.queue.name, exc)
        if isinstance(exc, BrokerUnavailable) and self._failures % RESET_AFTER == 0:
            self._client.reset()
        self._stopped.wait(backoff(self._failures))
        self._on_polled(self.queue.name, [], exc)
