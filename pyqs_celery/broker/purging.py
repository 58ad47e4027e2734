"""Emptying queues: ``pyqs-celery purge`` and ``app.control.purge()``."""

from __future__ import annotations

from collections.abc import Iterable

from pyqs_celery.broker.client import SqsClient
from pyqs_celery.broker.config import BrokerConfig
from pyqs_celery.broker.delivery import QueueInfo
from pyqs_celery.broker.queues import QueueDirectory
from pyqs_celery.exceptions import AccessDenied


class Purging:
    """Finds queues by name or pattern, counts what waits on them, and empties them."""

    def __init__(self, config: BrokerConfig, names: Iterable[str], exclude: Iterable[str] = ()) -> None:
        self._client = SqsClient(config)
        self._wanted = tuple(names)
        self._exclude = tuple(exclude)
        self._config = config

    def waiting(self) -> list[tuple[QueueInfo, int]]:
        """About how many messages wait on each queue, the hidden and delayed ones too.

        Raises BrokerError, for a queue that may not be looked up as well.
        """
        found = QueueDirectory(self._client, self._config).find(self._wanted, self._exclude)
        if found.denied:
            name, reason = next(iter(found.denied.items()))
            raise AccessDenied(reason, queue=name)
        return [(queue, self._count(queue)) for queue in found.queues]

    def _count(self, queue: QueueInfo) -> int:
        attributes = self._client.queue_attributes(queue.url, queue.name)
        names = ("", "NotVisible", "Delayed")
        return sum(int(attributes.get(f"ApproximateNumberOfMessages{name}", 0)) for name in names)

    def purge(self, queue: QueueInfo) -> None:
        """Delete everything that is on a queue. Raises BrokerError."""
        self._client.purge(queue)


def purge(config: BrokerConfig, names: Iterable[str]) -> dict[str, int]:
    """Empty the queues; about how many messages each had. Raises BrokerError."""
    purging = Purging(config, names)
    found = purging.waiting()
    for queue, _ in found:
        purging.purge(queue)
    return {queue.logical: count for queue, count in found}
