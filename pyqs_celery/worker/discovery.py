"""Finds the worker's queues, at the start and while it runs, in a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from pyqs_celery.broker.client import SqsClient
from pyqs_celery.broker.delivery import QueueInfo
from pyqs_celery.broker.errors import NO_CREDENTIALS
from pyqs_celery.broker.queues import FoundQueues, QueueDirectory, check_queue_name, is_pattern, matches
from pyqs_celery.exceptions import BrokerError, InvalidRequest
from pyqs_celery.utils.backoff import SOON_SECONDS, backoff
from pyqs_celery.utils.log import Sometimes
from pyqs_celery.worker.config import WorkerConfig

RECENTLY_SECONDS = 600.0
"""For how long a queue that was served and vanished is looked for every few seconds."""

logger = logging.getLogger("celery.worker.consumer.consumer")


class Discovery:
    """Looks once, then every ``queue_refresh_seconds`` while there are patterns or names that led nowhere.

    ``found(queues)`` is called from the thread after each look that succeeded, ``refused(sentence)`` if the first
    look fails in a way that waiting does not cure (no credentials, no region, a name SQS does not take). What AWS
    denies may be allowed a moment later, so it is asked again.
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
        self._excluded = config.exclude_queues
        self._found = found
        self._refused = refused
        self._again = threading.Event()
        self._stopped = False
        self._gone: set[str] = set()
        self._purged: set[str] = set()
        self._vanished_at = float("-inf")
        self._tell = Sometimes()
        self.lacking = ""
        """Which named queues are not served, as a sentence; a pattern that matches nothing yet lacks nothing."""

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._run, name="discovery", daemon=True).start()

    def vanished(self, name: str) -> None:
        """A queue is no longer there: forget what is known of it and look again."""
        self._gone.add(name)
        self._vanished_at = time.monotonic()
        self._again.set()

    def add(self, name: str) -> None:
        """Serve this name or pattern too. Raises InvalidRequest for a name that SQS would refuse."""
        if not is_pattern(name) and not self._client.config.predefined_queues:
            check_queue_name(name, self._client.config.queue_name_prefix)
        self._excluded = tuple(each for each in self._excluded if each != name)
        if name not in self._wanted:
            self._wanted = (*self._wanted, name)
        self._again.set()

    def cancel(self, name: str) -> None:
        """Serve this name or pattern no more, also where another pattern leads to it."""
        self._wanted = tuple(each for each in self._wanted if each != name)
        if name not in self._excluded:
            self._excluded = (*self._excluded, name)
        self._again.set()

    def is_cancelled(self, queue: QueueInfo) -> bool:
        """True if somebody has cancelled this queue while the worker runs."""
        prefix = self._client.config.queue_name_prefix
        return any(
            matches(entry, queue.name, prefix) if is_pattern(entry) else entry in (queue.name, queue.logical)
            for entry in self._excluded
        )

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
                if first and (isinstance(exc, InvalidRequest) or exc.code == NO_CREDENTIALS):
                    self._refused(str(exc))
                    return
                failures += 1
                self._say(type(exc), f"consumer: Cannot connect to {self._client.config.shown}: {exc}. Trying again")
                self._again.wait(backoff(failures, most=SOON_SECONDS))
                continue
            except Exception as exc:  # a mistake of ours or of a library's; without queues there is no use in waiting
                logger.critical("Queues cannot be looked for", exc_info=exc)
                if first:
                    self._refused(f"queues cannot be looked for: {type(exc).__name__}: {exc}")
                    return
                failures += 1
                self._again.wait(backoff(failures, most=SOON_SECONDS))
                continue
            failures, first = 0, False
            self._report(result)
            self._again.wait(self._pause(result))

    def _pause(self, result: FoundQueues) -> float | None:
        """How long until the next look; None: until somebody asks for one."""
        every = self._config.queue_refresh_seconds
        if result.missing and time.monotonic() - self._vanished_at < RECENTLY_SECONDS:
            return min(every, SOON_SECONDS)
        complete = not (result.missing or result.denied or any(is_pattern(name) for name in self._wanted))
        return None if complete else every

    def _look(self) -> FoundQueues:
        config = self._config
        result = self._directory.find(self._wanted, self._excluded, create=config.create_queues)
        if config.purge:
            for queue in result.queues:
                if queue.name not in self._purged:
                    self._client.purge(queue)
                    self._purged.add(queue.name)
                    logger.warning("Queue %s: purged", queue.name)
        return result

    def _report(self, result: FoundQueues) -> None:
        every = f"looking again every {self._config.queue_refresh_seconds:g}s"
        missing, denied, empty = result.missing, tuple(result.denied), result.empty_patterns
        lacking = [f"there is no queue {_named(missing)}"] if missing else []
        lacking += [f"queue {_named(denied)} is not open to this worker"] if denied else []
        self.lacking = "; ".join(lacking)
        if missing:
            advice = "does not exist; create it, or start with --create-queues"
            self._say(missing, f"Queue {_named(missing)} {advice}; {every}")
        if denied:
            self._say(denied, f"Queue {_named(denied)}: {result.denied[denied[0]]}; {every}")
        if empty:
            self._say(empty, f"No queue matches {_named(empty)} yet; {every}")
        self._found(result.queues)

    def _say(self, cause: object, sentence: str) -> None:
        if self._tell(cause, time.monotonic()):
            logger.error("%s", sentence)


def _named(names: Sequence[str]) -> str:
    """The first three, and how many more: one line for each cause, however many queues have it."""
    shown = ", ".join(repr(name) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} others"
