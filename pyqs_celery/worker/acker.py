"""Deletions, releases and moves: gathered into batches of ten, tried until SQS has taken them or the time is up.

Everything but the calls themselves happens in the loop's thread. A move is a send and then a deletion; once its send
has been confirmed only the deletion is repeated, so a message is not copied twice by a lost answer to the deletion.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from random import random
from typing import Literal

from pyqs_celery.broker.client import BatchResult, EntryError, SqsClient
from pyqs_celery.broker.dead_letters import copy_of, dead_letter
from pyqs_celery.broker.delivery import Delivery, Outgoing, QueueInfo
from pyqs_celery.broker.limits import BATCH_ENTRIES, MAX_VISIBILITY_SECONDS
from pyqs_celery.broker.publisher import batches
from pyqs_celery.broker.queues import dead_letter_attributes, find_predefined
from pyqs_celery.exceptions import BrokerError, BrokerUnavailable, QueueDoesNotExist
from pyqs_celery.utils.backoff import backoff, longest_wait
from pyqs_celery.utils.log import Troubles
from pyqs_celery.worker.core.values import Ack, DeadLetter, Hop, Release, Settled
from pyqs_celery.worker.io import IoThreads

logger = logging.getLogger("celery.worker.consumer.consumer")
FLUSH_SECONDS = 0.5
"""How long a deletion waits for nine more of its queue. Should the consumer be killed within, these tasks run again.

On queues with short visibility timeouts it is less: see ``FLUSH_PART``.
"""
FLUSH_PART = 1 / 20
FLUSH_AT_ONCE_SECONDS = 0.005
"""For what somebody waits for: releases, early acks, and FIFO deletions, which let the next of their group run.

Also for deletions of what has a copy elsewhere, and for what is tried again.
"""
TRY_FOR_SECONDS = 600.0
TRY_DONE_FOR_SECONDS = 12 * 3600.0
"""For what is done but for its deletion: as long as a lease can be kept (AWS: ChangeMessageVisibility), for when that is given
up the task runs again."""

AGAIN = "trying again"
_REFUSED = (
    "allow sqs:DeleteMessage on this queue; until then no more of it is received, what was run is kept from running again, and "
    "its deletion is tried again"
)

Settlement = Ack | Release | Hop | DeadLetter
Kind = Literal["delete", "release", "move"]


@dataclass(slots=True)
class Entry:
    """One settlement on its way. ``copied`` is True once the copy of a move is safe; ``given_up`` says why no move was made."""

    action: Settlement
    began: float
    attempts: int = 0
    copied: bool = False
    given_up: str = ""
    hide_seconds: int = 0

    @property
    def kind(self) -> Kind:
        """What is to be asked of SQS next."""
        if self.given_up or isinstance(self.action, Release):
            return "release"
        return "delete" if self.copied or isinstance(self.action, Ack) else "move"

    @property
    def delivery(self) -> Delivery:
        """The delivery it is about."""
        return self.action.delivery

    @property
    def is_done(self) -> bool:
        """True if nothing but this entry's end keeps its task from being run again, or run too early."""
        return (
            self.copied or isinstance(self.action, Hop) or (isinstance(self.action, Ack) and not self.action.waited_for)
        )

    def give_up_at(self, error: EntryError) -> float:
        """Until when it is worth trying again after this error; 0: not at all."""
        looked_up_again = error.missing and self.kind != "release"
        if error.lost or not (error.retryable or looked_up_again or (self.is_done and error.forbidden)):
            return 0.0
        return self.began + (TRY_DONE_FOR_SECONDS if self.is_done and not error.missing else TRY_FOR_SECONDS)


@dataclass(slots=True)
class Batch:
    """Entries of one queue and kind that wait for company until ``due``."""

    due: float
    entries: list[Entry] = field(default_factory=list)


class Acker:
    """Settles deliveries. ``queue(name)`` gives a queue's facts.

    ``settled`` is called in the loop's thread with the ends; every entry ends exactly once. ``refused`` is called there with
    the name of a queue on which a deletion was denied, each time it was.
    """

    def __init__(
        self,
        client: SqsClient,
        queue: Callable[[str], QueueInfo],
        threads: IoThreads,
        settled: Callable[[list[Settled], float], None],
        refused: Callable[[str, float], None],
    ) -> None:
        self._client = client
        self._queue = queue
        self._threads = threads
        self._settled = settled
        self._refused = refused
        self._waiting: dict[tuple[str, Kind, str], Batch] = {}
        self._dues: list[tuple[float, tuple[str, Kind, str]]] = []
        self._later: list[tuple[float, int, Entry]] = []
        self._urls: dict[str, str] = {}
        self._give_up_at = float("inf")
        self._troubles = Troubles()
        self._order = 0

    # -- in the loop's thread ----------------------------------------------------------------------

    def add(self, action: Settlement, now: float) -> None:
        """Take a settlement on."""
        hide = action.delay_seconds if isinstance(action, Release) else 0
        self._enqueue(Entry(action, now, hide_seconds=hide), now)

    def stop_at(self, instant: float) -> None:
        """Give up what SQS has not taken by then."""
        self._give_up_at = instant

    def next_due(self) -> float | None:
        """When ``flush`` must be called at the latest."""
        while self._dues and not self._is_due(*self._dues[0]):
            heapq.heappop(self._dues)
        dues = [heap[0][0] for heap in (self._dues, self._later) if heap]
        return min(dues) if dues else None

    def _is_due(self, instant: float, key: tuple[str, Kind, str]) -> bool:
        """True unless that batch has gone, or goes earlier."""
        batch = self._waiting.get(key)
        return batch is not None and batch.due == instant

    def flush(self, now: float) -> None:
        """Send off the batches that are due."""
        while self._later and self._later[0][0] <= now:
            self._enqueue(heapq.heappop(self._later)[2], now)
        while self._dues and self._dues[0][0] <= now:
            due, key = heapq.heappop(self._dues)
            if self._is_due(due, key):
                self._send_off(key)

    def _enqueue(self, entry: Entry, now: float) -> None:
        target = entry.action.target if isinstance(entry.action, DeadLetter) and entry.kind == "move" else ""
        key = (entry.delivery.queue, entry.kind, target)
        due = now + self._patience(entry)
        batch = self._waiting.get(key)
        if batch is None or due < batch.due:
            batch = self._waiting.setdefault(key, Batch(due))
            batch.due = due
            heapq.heappush(self._dues, (due, key))
        batch.entries.append(entry)
        if len(batch.entries) == BATCH_ENTRIES:
            self._send_off(key)

    def _patience(self, entry: Entry) -> float:
        """How long an entry may wait for company, in seconds: long only if nothing but its queue's bill depends on it."""
        is_first = not entry.attempts and isinstance(entry.action, Ack)
        if not is_first or not entry.is_done or entry.delivery.group_id is not None:
            return FLUSH_AT_ONCE_SECONDS
        return min(FLUSH_SECONDS, self._queue(entry.delivery.queue).visibility_timeout_seconds * FLUSH_PART)

    def _send_off(self, key: tuple[str, Kind, str]) -> None:
        name, kind, target = key
        entries = self._waiting.pop(key).entries
        call = {"delete": self._delete, "release": self._release, "move": self._move}[kind]
        queue = self._queue(name)

        def attempt() -> BatchResult | BrokerError:
            try:
                return call(queue, entries, target)
            except BrokerError as exc:
                return exc

        def ended(result: BatchResult | BrokerError, now: float) -> None:
            self._ended(kind, entries, result, now)

        hung = BrokerUnavailable("no answer came", queue=name)
        self._threads.ask(attempt, ended, key=(name, kind), hung=lambda: hung)

    def _ended(self, kind: Kind, entries: list[Entry], result: BatchResult | BrokerError, now: float) -> None:
        settled: list[Settled] = []
        luck = random()  # one for all, so that they stay together
        for number, entry in enumerate(entries):
            error = EntryError.of(result) if isinstance(result, BrokerError) else result.error(str(number))
            if error is None:
                self._done(entry, kind, settled, now)
                continue
            if error.forbidden and kind == "delete":
                self._refused(entry.delivery.queue, now)
            self._failed(entry, kind, error, settled, now, luck)
        if settled:
            self._settled(settled, now)

    def _done(self, entry: Entry, kind: Kind, settled: list[Settled], now: float) -> None:
        if kind == "move":
            entry.copied, entry.attempts = True, 0
            self._enqueue(entry, now)
        elif entry.given_up:
            settled.append(Settled(entry.action.tag, ok=False, detail=entry.given_up))
        else:
            settled.append(Settled(entry.action.tag, ok=True))

    def _failed(
        self, entry: Entry, kind: Kind, error: EntryError, settled: list[Settled], now: float, luck: float
    ) -> None:
        entry.attempts += 1
        wait = backoff(entry.attempts, most=longest_wait(throttled=error.throttled), random=lambda: luck)
        hopeless = self._give_up_at < float("inf") and not error.retryable
        if not hopeless and now + wait < min(entry.give_up_at(error), self._give_up_at):
            self._order += 1
            heapq.heappush(self._later, (now + wait, self._order, entry))
            self._say(entry, kind, error, now, _REFUSED if error.forbidden and kind == "delete" else AGAIN)
        elif kind == "move" and not error.lost and isinstance(entry.action, DeadLetter) and not entry.given_up:
            self._say(entry, kind, error, now, _what_to_do(entry.action))
            entry.given_up = f"it could not be moved to {entry.action.target}: {error.message}"
            later = max(1, entry.action.else_delay_seconds) * 2 ** min(entry.delivery.receive_count, 16)
            entry.hide_seconds = min(MAX_VISIBILITY_SECONDS, later)
            entry.attempts, entry.began = 0, now
            self._enqueue(entry, now)
        else:
            if not error.lost:
                self._say(entry, kind, error, now, "given up")
            detail = "its lease was lost" if error.lost else f"{error.code}: {error.message}"
            settled.append(Settled(entry.action.tag, ok=False, detail=detail, forbidden=error.forbidden))

    def _say(self, entry: Entry, kind: Kind, error: EntryError, now: float, end: str) -> None:
        named = self._troubles.began((kind, error.code, end in (AGAIN, _REFUSED)), entry.delivery.queue, now)
        if named is not None:
            logger.error(
                "Queue %s: %s of message %s failed: %s %s; %s",
                *(named, kind, entry.delivery.message_id, error.code, error.message, end),
            )

    # -- in the threads ----------------------------------------------------------------------------

    def _delete(self, queue: QueueInfo, entries: list[Entry], _: str) -> BatchResult:
        return self._client.delete_batch(
            queue, [(str(number), entry.delivery.receipt_handle) for number, entry in enumerate(entries)]
        )

    def _release(self, queue: QueueInfo, entries: list[Entry], _: str) -> BatchResult:
        return self._client.change_visibility_batch(
            queue,
            [(str(number), entry.delivery.receipt_handle, entry.hide_seconds) for number, entry in enumerate(entries)],
        )

    def _move(self, queue: QueueInfo, entries: list[Entry], target: str) -> BatchResult:
        url = self._target_url(target) if target else queue.url
        copies = [_copy(entry) for entry in entries]
        numbers = {id(copy): str(number) for number, copy in enumerate(copies)}
        ok: set[str] = set()
        failed: dict[str, EntryError] = {}
        for part in batches(copies):
            try:
                result = self._client.send_batch(url, [(numbers[id(copy)], copy) for copy in part])
            except BrokerError as exc:
                if isinstance(exc, QueueDoesNotExist):
                    self._urls.pop(target, None)
                failed.update({numbers[id(copy)]: EntryError.of(exc) for copy in part})
            else:
                ok |= result.ok
                failed.update(result.failed)
        return BatchResult(frozenset(ok), failed)

    def _target_url(self, name: str) -> str:
        url = self._urls.get(name)
        if url is None:
            predefined = find_predefined(self._client.config, name)
            if predefined is not None:
                url = predefined.url
            else:
                try:
                    url = self._client.queue_url(name)
                except QueueDoesNotExist:
                    url = self._client.create_queue(name, dead_letter_attributes(name))
            self._urls[name] = url
        return url


def _copy(entry: Entry) -> Outgoing:
    action = entry.action
    if isinstance(action, DeadLetter):
        return dead_letter(action.delivery, action.target, action.reason, action.exception)
    assert isinstance(action, Hop)
    return copy_of(action.delivery, action.delay_seconds)


def _what_to_do(action: DeadLetter) -> str:
    return (
        f"it stays, hidden for ever longer; allow sqs:GetQueueUrl, sqs:SendMessage and sqs:CreateQueue on {action.target}, "
        "or name another queue in sqs_dead_letter_queue"
    )
