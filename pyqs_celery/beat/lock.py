"""One beat at a time, by SQS alone: a FIFO queue that holds one message, and whoever holds the message may tick.

A FIFO queue gives the messages of a group out one at a time, so a second message, should two beats have put one there,
does no harm. The holder renews its visibility timeout; when it dies, SQS shows the message to the next.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from pyqs_celery.broker.client import SqsClient
from pyqs_celery.broker.config import BrokerConfig
from pyqs_celery.broker.delivery import Delivery, Outgoing, QueueInfo
from pyqs_celery.broker.publisher import Publisher
from pyqs_celery.broker.queues import QueueDirectory
from pyqs_celery.exceptions import BrokerError, ImproperlyConfigured

logger = logging.getLogger("celery.beat")
GROUP = "beat-lock"
OLD_SECONDS = 86_400.0
"""A message of a day is replaced by a new one, long before SQS's retention (4 days) drops it."""


@dataclass(slots=True)
class _Held:
    delivery: Delivery
    until: float


class BeatLock:
    """``queue`` is a FIFO queue by the application's name, ``seconds`` how long a dead holder keeps the others waiting."""

    def __init__(
        self, config: BrokerConfig, queue: str, seconds: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not queue.endswith(".fifo"):
            raise ImproperlyConfigured(f"beat_lock_queue must be a FIFO queue, whose name ends in .fifo, not {queue!r}")
        if seconds < 10:
            raise ImproperlyConfigured(f"beat_lock_seconds must be at least 10, not {seconds}")
        self.seconds = seconds
        self._name = queue
        self._client = SqsClient(config)
        self._publisher = Publisher(config, client=self._client)
        self._config = config
        self._clock = clock
        self._queue: QueueInfo | None = None
        self._held: _Held | None = None

    @property
    def held(self) -> bool:
        """True while nobody else can have it."""
        return self._held is not None and self._clock() < self._held.until

    def hold(self) -> bool:
        """Get it or renew it when that is due; True if it is ours now. An unreachable broker is logged."""
        try:
            if self._held is None or not self.held:
                self._acquire()
            elif self._held.until - self._clock() < self.seconds * 2 / 3:
                self._renew(self._held)
        except BrokerError as exc:
            logger.error("beat's lock %s: %s", self._name, exc)
        return self.held

    def _acquire(self) -> None:
        self._held = None
        queue = self._find()
        asked = self._clock()
        deliveries = self._client.receive(
            queue, count=1, wait_seconds=1, visibility_seconds=self.seconds, clock=time.time
        )
        if not deliveries:
            self._put_if_missing(queue)
            return
        self._take(deliveries[0], asked)
        logger.info("beat: this one ticks (lock %s)", self._name)

    def _take(self, delivery: Delivery, asked: float) -> None:
        # a second is kept back for the way from SQS's clock to ours
        self._held = _Held(delivery, asked + self.seconds - 1)

    def _find(self) -> QueueInfo:
        if self._queue is None:
            self._publisher.url(self._name)  # creates it if it is not there
            found = QueueDirectory(self._client, self._config).find([self._name])
            if not found.queues:
                raise BrokerError(f"the queue {self._name} cannot be found", queue=self._name)
            self._queue = found.queues[0]
        return self._queue

    def _put_if_missing(self, queue: QueueInfo) -> None:
        attributes = self._client.queue_attributes(queue.url, queue.name)
        names = ("", "NotVisible", "Delayed")
        if sum(int(attributes.get(f"ApproximateNumberOfMessages{name}", 0)) for name in names) == 0:
            self._put()

    def _put(self) -> None:
        self._publisher.send(
            Outgoing(
                self._name, "the beat that holds this message ticks", group_id=GROUP, deduplication_id=str(uuid.uuid4())
            )
        )

    def _renew(self, held: _Held) -> None:
        queue = self._find()
        if held.delivery.sent_at is not None and time.time() - held.delivery.sent_at > OLD_SECONDS:
            self._put()
            self._client.delete_batch(queue, [("0", held.delivery.receipt_handle)])
            self._held = None
            self._acquire()
            return
        asked = self._clock()
        result = self._client.change_visibility_batch(queue, [("0", held.delivery.receipt_handle, self.seconds)])
        if result.failed:
            logger.warning("beat's lock %s was lost; another beat may tick", self._name)
            self._held = None
        else:
            self._take(held.delivery, asked)

    def release(self) -> None:
        """Let another beat have it at once."""
        held, self._held = self._held, None
        if held is None or self._queue is None:
            return
        try:
            self._client.change_visibility_batch(self._queue, [("0", held.delivery.receipt_handle, 0)])
        except BrokerError as exc:
            logger.warning(
                "beat's lock %s could not be released: %s; another gets it in %ds", self._name, exc, self.seconds
            )
