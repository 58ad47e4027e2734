"""What a standard queue may do to its clients and seldom does: deliver twice, and out of order.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/standard-queues-at-least-once-delivery.html
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyqs_celery.local.messages import Message, Queue

if TYPE_CHECKING:
    from pyqs_celery.local.store import Store

SHUFFLE_AMONG = 100
"""How far from the head of its queue a message may be taken."""


class Trouble:
    """Switched on by putting it into a store. ``duplicates`` is the share of received messages that come a second time.

    One half of these comes again while in flight: the same message with another receipt, the first of which then deletes
    nothing. The other half comes again once deleted. ``shuffle`` takes messages at random from the head of the queue.
    """

    def __init__(self, store: Store, duplicates: float, shuffle: bool, rng: random.Random | None = None) -> None:
        self.duplicates = duplicates
        self.shuffle = shuffle
        self._store = store
        self._random = rng or random.Random()
        self._again: dict[str, deque[Message]] = {}
        self._undead: set[str] = set()

    def mix(self, queue: Queue) -> None:
        """Before a receive: change the order at the queue's head."""
        if self.shuffle and not queue.fifo:
            head = [queue.ready.popleft() for _ in range(min(SHUFFLE_AMONG, len(queue.ready)))]
            self._random.shuffle(head)
            queue.ready.extendleft(head)

    def repeats(self, queue: Queue, most: int) -> Iterator[Message]:
        """Messages in flight which this receive gets too."""
        again = self._again.get(queue.name)
        while again and most:
            message = again.popleft()
            if message.state == "inflight":
                most -= 1
                self._store.stats["duplicates"] += 1
                self._store.note("duplicate", queue, message, "in flight")
                yield message

    def received(self, queue: Queue, message: Message) -> None:
        """A message was given out: decide whether it comes again."""
        if queue.fifo or message.state != "inflight" or self._random.random() >= self.duplicates:
            return
        if self._random.random() < 0.5:
            self._undead.add(message.id)
        else:
            self._again.setdefault(queue.name, deque()).append(message)
            self._store.on_visible(queue.name)

    def deleted(self, queue: Queue, message: Message) -> None:
        """A message was deleted: let it come again if that was decided."""
        if message.id not in self._undead:
            return
        self._undead.discard(message.id)
        copy = Message(
            message.body,
            message.sent,
            id=message.id,
            attributes=message.attributes,
            system_attributes=message.system_attributes,
            count=message.count,
            first_received=message.first_received,
            group=message.group,
        )
        self._store.stats["duplicates"] += 1
        self._store.note("duplicate", queue, message, "after its deletion")
        queue.ready.append(copy)
        self._store.save(queue, copy)
        self._store.on_visible(queue.name)
