"""One queue's long polls, one at a time, in a thread of their own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from uuid import uuid4

from pyqs_celery.broker.client import SqsClient
from pyqs_celery.broker.delivery import Delivery, QueueInfo
from pyqs_celery.exceptions import BrokerError, BrokerUnavailable, InvalidRequest, Throttled
from pyqs_celery.utils.backoff import backoff, longest_wait
from pyqs_celery.utils.log import Sometimes, Troubles
from pyqs_celery.worker.io import HANGS_SECONDS, IoThreads

logger = logging.getLogger("celery.worker.consumer.consumer")
RESET_AFTER = 3
"""Failures in a row to reach SQS after which the client is made anew."""
HANGING_MOST = 5
"""How many threads of a queue may be lost to polls that hang."""
STOP_MARGIN_SECONDS = 5.0
"""How much longer than its waiting time an open poll may take once the worker stops."""
EMPTY_APART_SECONDS = 1.0
"""How soon a receive follows one that brought nothing at once, as with wait_time_seconds = 0 (kombu's polling_interval)."""
LOOK_EVERY_SECONDS = 5.0
ATTEMPT_SECONDS = 240.0
"""For how long a receive from a FIFO queue is made again by the same id. SQS knows it for five minutes."""

Polled = Callable[[str, list[Delivery], BrokerError | None], None]


class Attempt:
    """The ids by which receives from a FIFO queue may be made again after an answer that was lost (AWS: ReceiveMessage)."""

    def __init__(self) -> None:
        self.id = uuid4().hex
        self.count = 0
        self.repeats = False
        self._since = 0.0

    def begin(self, count: int, now: float) -> int:
        """A receive of up to ``count`` begins; how many to ask for: a receive that is made again asks for the same."""
        self.repeats = bool(self.count) and now - self._since <= ATTEMPT_SECONDS
        if not self.repeats:
            self.renew()
            self.count, self._since = count, now
        return self.count

    def renew(self) -> None:
        """It is known how the last receive ended: the next is another."""
        self.id, self.count = uuid4().hex, 0


class Receiver:
    """Receives when asked. ``on_polled(queue, deliveries, error)`` is called from its thread, once for each ask.

    ``lease_seconds`` is the visibility timeout that each receipt gets, ``wait_seconds`` how long a poll waits.
    ``troubles`` are shared by all receivers.
    """

    def __init__(
        self,
        client: SqsClient,
        queue: QueueInfo,
        *,
        lease_seconds: int,
        wait_seconds: int,
        on_polled: Polled,
        troubles: Troubles,
    ) -> None:
        self.queue = queue
        self.lease_seconds = lease_seconds
        self._client = client
        self._wait_seconds = wait_seconds
        self._on_polled = on_polled
        self._stopped = threading.Event()
        self._failures = 0
        self._troubles = troubles
        self._tell_extra = Sometimes()
        self._attempt = Attempt() if queue.fifo else None
        self._lock = threading.Lock()
        self._asked_at: float | None = None
        self._stopped_at: float | None = None
        self._closed = False
        self._hanging = 0
        self._start()

    def _start(self) -> None:
        """Begin with a thread. One that was there before has lost its say: it ends when its poll does."""
        self._asked: SimpleQueue[int | None] = SimpleQueue()
        threading.Thread(target=self._run, args=(self._asked,), name=f"receiver-{self.queue.name}", daemon=True).start()

    def poll(self, count: int) -> None:
        """Ask for up to ``count`` messages."""
        self._asked_at = time.monotonic()
        self._asked.put(count)

    def poll_once(self, count: int) -> list[Delivery]:
        """A receive that waits for nothing, in the caller's thread, beside the long poll. It brings nothing if it fails."""
        try:
            return self._receive(count, wait_seconds=0)
        except BrokerError as exc:
            if self._tell_extra("extra", time.monotonic()):
                logger.warning("Queue %s: a receive beside the long poll has failed: %s", self.queue.name, exc)
            return []

    def stop(self) -> None:
        """No more waiting between failures; a poll that is open still returns."""
        self._stopped_at = self._stopped_at or time.monotonic()
        self._stopped.set()

    def close(self) -> None:
        """Let the thread end, when a poll that is open does."""
        self._closed = True
        self.stop()
        self._troubles.ended(self.queue.name)
        self._asked.put(None)

    @property
    def is_over(self) -> bool:
        """True once it is closed and no poll is open."""
        return self._closed and self._asked_at is None

    def look(self, now: float) -> None:
        """Give a poll up that hangs, and go on with a new thread and client. ``now`` is monotonic.

        What it brings later is not taken: its messages come again when their leases end.
        """
        with self._lock:
            since, limit = self._asked_at, HANGS_SECONDS
            if since is not None and self._stopped_at is not None:
                since, limit = max(since, self._stopped_at), self._wait_seconds + STOP_MARGIN_SECONDS
            if since is None or now - since < limit or (self._hanging >= HANGING_MOST and self._stopped_at is None):
                return
            self._hanging += 1
            self._asked_at = None
            self._asked.put(None)
            if self._closed:
                self._asked = SimpleQueue()
            else:
                self._start()
        error = BrokerUnavailable(f"a poll has not ended within {limit:.0f} s", queue=self.queue.name)
        logger.error("Queue %s: %s; it is given up, and a new connection is made", self.queue.name, error)
        self._client.reset(after_trouble=True)
        self._on_polled(self.queue.name, [], error)

    def _run(self, asked: SimpleQueue[int | None]) -> None:
        while True:
            count = asked.get()
            if count is None:
                return
            deliveries, error = self._poll(count)
            with self._lock:
                if self._asked is not asked:
                    self._hanging -= 1
                    return
                self._asked_at = None
            self._on_polled(self.queue.name, deliveries, error)

    def _poll(self, count: int) -> tuple[list[Delivery], BrokerError | None]:
        """One ReceiveMessage; after a failure its report waits, so that nobody asks again at once."""
        began, attempt = time.monotonic(), self._attempt
        try:
            deliveries = self._receive(
                attempt.begin(count, began) if attempt else count,
                wait_seconds=0 if self._stopped.is_set() else self._wait_seconds,
                attempt=attempt.id if attempt else None,
            )
        except BrokerError as exc:
            if attempt is not None and not isinstance(exc, BrokerUnavailable):
                attempt.renew()  # SQS has answered; after a throttled receive, too, it wants another id
                if attempt.repeats and isinstance(exc, InvalidRequest):
                    return [], exc  # its messages have changed since: nothing is wrong, the next receive is a new one
            self._failed(exc, began)
            return [], exc
        except Exception as exc:  # whatever it is, the queue is asked again
            error = BrokerUnavailable(f"a receive failed: {type(exc).__name__}: {exc}", queue=self.queue.name)
            logger.debug("Queue %s: %s", self.queue.name, error, exc_info=exc)
            self._failed(error, began)
            return [], error
        if attempt is not None:
            attempt.renew()
        if self._failures:
            named = self._troubles.ended(self.queue.name)
            if named is not None:
                logger.info("Queue %s: receiving again", named)
        self._failures = 0
        if not deliveries:
            self._stopped.wait(max(0.0, EMPTY_APART_SECONDS - (time.monotonic() - began)))
        return deliveries, None

    def _receive(self, count: int, *, wait_seconds: int, attempt: str | None = None) -> list[Delivery]:
        return self._client.receive(
            self.queue,
            count=count,
            wait_seconds=wait_seconds,
            visibility_seconds=self.lease_seconds,
            clock=time.time,
            attempt=attempt,
        )

    def _failed(self, exc: BrokerError, began: float) -> None:
        now = time.monotonic()
        self._failures += 1
        named = self._troubles.began(type(exc), self.queue.name, now)
        if named is not None:
            logger.error("Queue %s: %s; trying again", named, exc)
        if isinstance(exc, BrokerUnavailable) and self._failures % RESET_AFTER == 0:
            self._client.reset(after_trouble=True)
        pause = backoff(self._failures, most=longest_wait(throttled=isinstance(exc, Throttled)))
        self._stopped.wait(max(0.0, pause - (now - began)))


class Watchdog:
    """Looks every few seconds whether a poll or another call hangs."""

    def __init__(self, threads: Iterable[IoThreads]) -> None:
        self._receivers: list[Receiver] = []
        self._threads = tuple(threads)
        self._due = 0.0

    def add(self, receiver: Receiver) -> Receiver:
        """Look at this receiver too, until it is closed and its last poll has ended."""
        self._receivers.append(receiver)
        return receiver

    def next_due(self) -> float:
        """When ``look`` is to be called (epoch seconds)."""
        return self._due

    def look(self, now: float) -> None:
        """Look, if it is time to."""
        if now < self._due:
            return
        self._due = now + LOOK_EVERY_SECONDS
        present = time.monotonic()
        self._receivers = [receiver for receiver in self._receivers if not receiver.is_over]
        for receiver in self._receivers:
            receiver.look(present)
        late = sum(threads.look(present) for threads in self._threads)
        if late:
            logger.error("%d calls to SQS have not ended within %.0f s; they are made again", late, HANGS_SECONDS)
