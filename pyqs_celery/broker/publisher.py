"""Sending: one message at once, or many gathered into batches of ten; checked before the call, bounded in time."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import cache, partial
from random import random
from typing import Any, TypeVar
from uuid import uuid4

from pyqs_celery import exceptions
from pyqs_celery.broker import limits
from pyqs_celery.broker.client import SqsClient
from pyqs_celery.broker.config import BrokerConfig
from pyqs_celery.broker.connections import Timeouts
from pyqs_celery.broker.delivery import Outgoing
from pyqs_celery.broker.queues import check_queue_name, creation_attributes, find_predefined

_NOT_XML = "[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
_REFUSED_BYTES = bytes(sorted({*range(0x20)} - {*b"\t\n\r"}))
"""The same of ASCII, where looking for them is quicker than for the others."""
FIRST_RETRY_SECONDS = 0.2
MOST_RETRY_SECONDS = 2.0
POOL_SIZE = 200
"""For as many threads that send at once."""
PATIENT = Timeouts(2.0, 5.0)
"""For connecting and for an answer, while the budget has room for both."""
HASTY = Timeouts(1.0, 2.0)
"""The same for calls near the end of the budget."""
HASTIEST_SCALE = 0.2
"""What is left of those for a small budget; less would be too little for an answer from another network."""

Answer = TypeVar("Answer")


@cache
def hasty(budget_seconds: float) -> Timeouts:
    """The times of calls near the end of a budget: two of them fit into it, for a first send makes two calls or three."""
    scale = max(HASTIEST_SCALE, min(1.0, budget_seconds / 2 / HASTY.total))
    return Timeouts(HASTY.connect * scale, HASTY.read * scale)


class Budget:
    """What one send has left. ``retries`` are the repetitions it may have, None: as many as the time allows."""

    def __init__(self, seconds: float, retries: int | None, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._least = min(hasty(seconds).total, seconds / 2)
        self._retries = retries
        self._clock = clock
        self._deadline = clock() + seconds
        self._failures = 0
        self._asked = False

    def rest(self) -> float:
        """Seconds that are left."""
        return self._deadline - self._clock()

    def may_be_patient(self) -> bool:
        """True if a call with the longer times still ends in time. Raises BrokerUnavailable if none does."""
        rest, first, self._asked = self.rest(), not self._asked, True
        if not first and rest < self._least:
            raise exceptions.BrokerUnavailable(
                f"SQS: no time is left of the {self._seconds:g}s that a send may take", code="Budget"
            )
        return rest >= PATIENT.total

    def pause(self) -> float | None:
        """Seconds to wait after a failure, None if it is not to be tried again."""
        self._failures += 1
        pause = min(MOST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** (self._failures - 1)) * (0.5 + random() / 2)
        spent = self._retries is not None and self._failures > self._retries
        return None if spent or self.rest() < pause + self._least else pause


class Gathering:
    """What one ``batch()`` block gathers, with the block it lies in.

    It belongs to what runs inside the block: to its thread, greenlet or asyncio task, and to what is started from there with a
    copy of its context. Once the block has ended, or in a process forked inside it, nothing can be added.
    """

    def __init__(self, publisher: Publisher, outer: Gathering | None) -> None:
        self._publisher = publisher
        self._outer = outer
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._messages: list[Outgoing] | None = []

    def of(self, publisher: Publisher) -> Gathering | None:
        """The one of this block or of those around it that gathers for ``publisher``; None if none does."""
        if self._publisher is publisher and self._pid == os.getpid() and self._messages is not None:
            return self
        return None if self._outer is None else self._outer.of(publisher)

    def add(self, message: Outgoing) -> bool:
        """Keep a message for the end of the block; False if that has come meanwhile."""
        with self._lock:
            if self._messages is None:
                return False
            self._messages.append(message)
            return True

    def close(self) -> list[Outgoing]:
        """What was gathered. In a forked process nothing: the parent sends it."""
        if self._pid != os.getpid():
            return []
        with self._lock:
            messages, self._messages = self._messages, None
            return messages or []


_gathering: ContextVar[Gathering | None] = ContextVar("pyqs_celery_gathering", default=None)


class Publisher:
    """Sends messages to queues by the application's names. Safe under threads and forks.

    ``create_missing`` lets it create a queue that does not exist, as Celery's producers do. ``budget_seconds`` bounds
    one send with all its calls and retries. ``clock`` and ``sleep`` are there for tests.
    """

    def __init__(
        self,
        config: BrokerConfig,
        *,
        client: SqsClient | None = None,
        create_missing: bool = True,
        budget_seconds: float = limits.PRODUCER_BUDGET_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.config = config
        self.client = client or SqsClient(config, pool_size=POOL_SIZE, timeouts=PATIENT)
        self._hasty = client or SqsClient(config, pool_size=POOL_SIZE, timeouts=hasty(budget_seconds), like=self.client)
        self.create_missing = create_missing
        self.budget_seconds = budget_seconds
        self._clock = clock
        self._sleep = sleep
        self._urls: dict[str, str] = {}
        self._max_sizes: dict[str, int] = {}

    def send(self, message: Outgoing, *, retries: int | None = None) -> str | None:
        """Send one message and give its id; inside ``batch()`` gather it and give None.

        ``retries`` limits how often it is tried again within the budget; every attempt sends the same message, with
        the same deduplication id.

        Raises MessageTooLarge, InvalidRequest, QueueDoesNotExist, AccessDenied, or BrokerUnavailable after the
        budget, all of them OperationalErrors.
        """
        message = self._prepared(message)
        self._check_content(message)
        gathering = _gathering.get()
        gathering = gathering and gathering.of(self)
        if gathering is not None and gathering.add(message):
            return None
        budget = self._budget(retries)
        url = self._url(message.queue, budget)
        self._check_size(message, url, budget)
        return self._within(budget, lambda: self._send_once(url, message, budget))

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Gather what is sent inside the block, and send it by tens at its end; the outermost block sends everything.

        Nothing is sent if the block raises. Raises BatchError if entries still fail after retries; all others are sent. Where a
        request fails as a whole (SQS away, a queue that may not be sent to) its error is raised, and what follows is not sent.
        """
        outer = _gathering.get()
        if outer is not None and outer.of(self) is not None:
            yield
            return
        gathering = Gathering(self, outer)
        token = _gathering.set(gathering)
        try:
            yield
        finally:
            _gathering.reset(token)
            gathered = gathering.close()
        self._send_all(gathered)

    def url(self, logical: str) -> str:
        """The URL of a queue, looked up once and remembered. Creates it if it may. Raises BrokerError."""
        return self._url(logical, self._budget())

    def _url(self, logical: str, budget: Budget) -> str:
        url = self._urls.get(logical)
        if url is None:
            url = self._urls[logical] = self._within(budget, lambda: self._look_up(logical, budget))
        return url

    def close(self) -> None:
        """Forget connections and queues."""
        self.client.reset()
        self._hasty.reset()
        self._urls.clear()
        self._max_sizes.clear()

    # -- one ---------------------------------------------------------------------------------------

    def _send_once(self, url: str, message: Outgoing, budget: Budget) -> str:
        return self._at(url, message.queue, budget, lambda client, where: client.send(where, message))

    def _at(self, url: str, logical: str, budget: Budget, call: Callable[[SqsClient, str], Answer]) -> Answer:
        """One call about a queue; if it was deleted since it was looked up, one more where it is now."""
        try:
            return call(self._client(budget), url)
        except exceptions.QueueDoesNotExist:
            self._urls.pop(logical, None)
            return call(self._client(budget), self._look_up(logical, budget))

    def _look_up(self, logical: str, budget: Budget) -> str:
        predefined = find_predefined(self.config, logical)
        if predefined is not None:
            if "://" in predefined.url:
                return predefined.url
            return self._client(budget).queue_url(predefined.url)
        if self.config.predefined_queues:
            raise exceptions.QueueDoesNotExist(
                f"queue {logical!r} is not in predefined_queues, so nothing was sent; add it there with its url",
                queue=logical,
            )
        name = check_queue_name(logical, self.config.queue_name_prefix)
        try:
            return self._client(budget).queue_url(name)
        except exceptions.QueueDoesNotExist as exc:
            if not self.create_missing:
                raise exceptions.QueueDoesNotExist(
                    f"queue {logical!r} ({name} on SQS) does not exist and task_create_missing_queues is off, so nothing "
                    "was sent; create it first",
                    queue=name,
                ) from exc
        return self._client(budget).create_queue(name, creation_attributes(self.config, name), self.config.queue_tags)

    def _prepared(self, message: Outgoing) -> Outgoing:
        """Give FIFO messages the group and deduplication id that kombu would."""
        if not message.queue.endswith(".fifo"):
            return message
        return replace(
            message,
            group_id=message.group_id or "default",
            deduplication_id=message.deduplication_id or str(uuid4()),
        )

    def _check_content(self, message: Outgoing) -> None:
        delay = message.delay_seconds
        if delay is not None and not 0 <= delay <= limits.MAX_DELAY_SECONDS:
            raise exceptions.InvalidRequest(
                f"DelaySeconds is {delay} for queue {message.queue!r}: SQS takes 0 to 900; use countdown or eta for more",
                queue=message.queue,
            )
        if delay and message.queue.endswith(".fifo"):
            raise exceptions.InvalidRequest(
                f"queue {message.queue!r} is FIFO, and FIFO queues take no delay per message; leave DelaySeconds out",
                queue=message.queue,
            )
        if len(message.attributes) > limits.MAX_MESSAGE_ATTRIBUTES:
            raise exceptions.InvalidRequest(
                f"{len(message.attributes)} message attributes for queue {message.queue!r}: SQS takes 10",
                queue=message.queue,
            )
        _check_types(message)
        if not message.body:
            raise exceptions.InvalidRequest(
                f"the message for queue {message.queue!r} is empty, which SQS refuses", queue=message.queue
            )
        refused = _refused_character(message.body)
        if refused is not None:
            raise exceptions.InvalidRequest(
                f"the message for queue {message.queue!r} holds the character {refused!r}, which SQS refuses; "
                "leave sqs_base64_encoding on",
                queue=message.queue,
            )

    def _check_size(self, message: Outgoing, url: str, budget: Budget) -> None:
        size = message_size(message)
        if size <= limits.OLD_MAX_MESSAGE_BYTES:
            return
        limit = self._max_size(message.queue, url, budget)
        if size > limit:
            raise exceptions.MessageTooLarge(
                f"the message for queue {message.queue!r} is {size} bytes and the queue takes {limit}, so nothing was "
                "sent; send a reference instead of the data, or set compression",
                size=size,
                limit=limit,
                queue=message.queue,
            )

    def _max_size(self, logical: str, url: str, budget: Budget) -> int:
        """The queue's MaximumMessageSize, asked once and only for large messages."""
        if logical not in self._max_sizes:
            name = url.rsplit("/", 1)[-1]
            try:
                attributes: Mapping[str, str] = self._within(
                    budget, lambda: self._client(budget).queue_attributes(url, name)
                )
            except exceptions.AccessDenied:
                attributes = {}
            self._max_sizes[logical] = int(attributes.get("MaximumMessageSize", limits.MAX_MESSAGE_BYTES))
        return self._max_sizes[logical]

    # -- time --------------------------------------------------------------------------------------

    def _budget(self, retries: int | None = None) -> Budget:
        return Budget(self.budget_seconds, retries, self._clock)

    def _client(self, budget: Budget) -> SqsClient:
        """The client whose times fit into what is left."""
        return self.client if budget.may_be_patient() else self._hasty

    def _within(self, budget: Budget, call: Callable[[], Answer]) -> Answer:
        while True:
            try:
                return call()
            except exceptions.BrokerError as exc:
                pause = budget.pause() if exc.retryable else None
                if pause is None:
                    raise
            self._sleep(pause)

    # -- many --------------------------------------------------------------------------------------

    def _send_all(self, messages: list[Outgoing]) -> None:
        """Send in order, queue by queue. Everything is checked before anything is sent."""
        by_queue: dict[str, list[Outgoing]] = {}
        for message in messages:
            by_queue.setdefault(message.queue, []).append(message)
        urls = {queue: self.url(queue) for queue in by_queue}
        for queue, group in by_queue.items():
            for message in group:
                self._check_size(message, urls[queue], self._budget())
        failed: list[tuple[str, str, str]] = []
        for queue, group in by_queue.items():
            for part in batches(group):
                failed.extend(self._send_part(urls[queue], part))
        if failed:
            raise exceptions.BatchError(
                f"{len(failed)} of {len(messages)} messages were refused, the others are sent; first: {failed[0][2]}",
                failed=tuple(failed),
            )

    def _send_part(self, url: str, part: list[Outgoing]) -> list[tuple[str, str, str]]:
        """Send up to ten; entries that failed and may succeed later are sent again one by one, in order."""
        entries = [(str(index), message) for index, message in enumerate(part)]
        budget = self._budget()
        result = self._within(
            budget,
            lambda: self._at(url, part[0].queue, budget, lambda client, where: client.send_batch(where, entries)),
        )
        failed: list[tuple[str, str, str]] = []
        for each, message in entries:
            error = result.error(each)
            if error is None:
                continue
            try:
                if not error.retryable:
                    raise exceptions.InvalidRequest(error.message, code=error.code, queue=message.queue)
                self._within(budget, partial(self._send_once, url, message, budget))
            except exceptions.BrokerError as exc:
                failed.append((each, exc.code or type(exc).__name__, str(exc)))
        return failed


def _check_types(message: Outgoing) -> None:
    """Refuse what botocore would refuse if it were not told to leave our requests alone."""
    wrong, body = None, message.body
    if type(body) is not str:
        wrong = f"its body is {type(body).__name__}, not text"
    for name, value in message.attributes.items():
        if not _is_attribute(name, value):
            wrong = (
                f"the message attribute {name!r} is {value!r:.80}; it needs a DataType, and a StringValue of text or a "
                "BinaryValue of bytes"
            )
    if wrong:
        raise exceptions.InvalidRequest(f"the message for queue {message.queue!r}: {wrong}", queue=message.queue)


def _is_attribute(name: Any, value: Any) -> bool:
    """True for what SQS takes as a message attribute (AWS: MessageAttributeValue)."""
    if not isinstance(name, str) or not isinstance(value, Mapping) or not isinstance(value.get("DataType"), str):
        return False
    others = value.keys() - {"DataType"}
    if others == {"StringValue"}:
        return isinstance(value["StringValue"], str)
    return others == {"BinaryValue"} and isinstance(value["BinaryValue"], (bytes, bytearray))


def _refused_character(body: str) -> str | None:
    """The first character that SQS does not take (AWS: SendMessage); None if there is none."""
    if body.isascii() and len(body.encode("ascii").translate(None, _REFUSED_BYTES)) == len(body):
        return None
    found = re.search(_NOT_XML, body)
    return found and found.group()


def message_size(message: Outgoing) -> int:
    """Bytes that SQS counts: the body, and names, types and values of attributes (AWS: SendMessage)."""
    body = message.body
    total = len(body) if body.isascii() else len(body.encode("utf-8"))
    for name, value in message.attributes.items():
        total += len(name.encode("utf-8")) + len(str(value.get("DataType", "")).encode("utf-8"))
        total += len(str(value.get("StringValue") or "").encode("utf-8")) + len(value.get("BinaryValue") or b"")
    return total


def batches(messages: list[Outgoing]) -> Iterator[list[Outgoing]]:
    """Cut into parts of at most ten messages and 1 MiB, in order."""
    part: list[Outgoing] = []
    size = 0
    for message in messages:
        own = message_size(message)
        if part and (len(part) == limits.BATCH_ENTRIES or size + own > limits.MAX_BATCH_BYTES):
            yield part
            part, size = [], 0
        part.append(message)
        size += own
    if part:
        yield part
