"""Finds the worker's queues, at the start and while it runs, in a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from pyqs_celery.broker.client import SqsClient
from pyqs_celery.broker.delivery import QueueInfo
from pyqs_celery.broker.queues import FoundQueues, QueueDirectory, is_pattern
from pyqs_celery.exceptions import AccessDenied, BrokerError, InvalidRequest
from pyqs_celery.utils.backoff import backoff
from pyqs_celery.utils.log import Sometimes
from pyqs_celery.worker.config import WorkerConfig

logger = logging.getLogger("celery.worker.consumer.consumer")


class Discovery:
    """Looks once, then every ``queue_refresh_seconds`` while there are patterns or names that led nowhere.

    ``found(queues)`` is called from the thread after each look that succeeded, ``refused(sentence)`` if the first
    look fails in a way that waiting does not cure (no credentials, no region, a name SQS does not take).
    """

    def __init__(
        self,
        client: SqsClient,
        config: WorkerConfig,
        wanted: tuple[str, ...],
        *,
        found: Callable[[tuple[QueueInfo, ...]], None],
        refused: Callable[[str], None],
    ) -> None:
        self._directory = QueueDirectory(client, client.config)
        self._client = client
        self._config = config
        self._wanted = wanted
        self._found = found
        self._refused = refused
        self._again = threading.Event()
        self._stopped = False
        self._gone: set[str] = set()
        self._purged: set[str] = set()
        self._tell = Sometimes()

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._run, name="discovery", daemon=True).start()

    def vanished(self, name: str) -> None:
        """A queue is no longer there: forget what is known of it and look again."""
        self._gone.add(name)
        self._again.set()

    def stop(self) -> None:
        """Look no more."""
        self._stopped = True
        self._again.set()

    def _run(self) -> None:
        failures, first = 0, True
        while not self._stopped:
            self._again.clear()
            while self._gone:
                self._directory.forget(self._gone.pop())
            try:
                result = self._look()
            except BrokerError as exc:
                if first and not exc.retryable and isinstance(exc, (AccessDenied, InvalidRequest)):
                    self._refused(str(exc))
                    return
                failures += 1
                self._say(type(exc), f"consumer: Cannot connect to {self._client.config.shown}: {exc}. Trying again")
                self._again.wait(backoff(failures))
                continue
            failures, first = 0, False
            self._report(result)
            complete = not (result.missing or result.denied or any(is_pattern(name) for name in self._wanted))
            self._again.wait(None if complete else self._config.queue_refresh_seconds)

    def _look(self) -> FoundQueues:
        config = self._config
        result = self._directory.find(self._wanted, config.exclude_queues, create=config.create_queues)
        if config.purge:
            for queue in result.queues:
                if queue.name not in self._purged:
                    self._client.purge(queue)
                    self._purged.add(queue.name)
                    logger.warning("Queue %s: purged", queue.name)
        return result

    def _report(self, result: FoundQueues) -> None:
        every = f"looking again every {self._config.queue_refresh_seconds:g}s"
        for name in result.missing:
            self._say(name, f"Queue {name!r} does not exist; create it, or start with --create-queues; {every}")
        for name in result.denied:
            self._say(name, f"Queue {name!r}: access was denied; allow sqs:GetQueueUrl on it; {every}")
        for name in result.empty_patterns:
            self._say(name, f"No queue matches {name!r} yet; {every}")
        self._found(result.queues)

    def _say(self, cause: object, sentence: str) -> None:
        if self._tell(cause, time.monotonic()):
            logger.error("%s", sentence)
