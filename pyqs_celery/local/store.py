"""What SQS does with requests: the actions of its API over queues in memory, with the clock passed in.

Pure but for the journal it may be given. Long polling is not here: ``receive`` answers at once, and whoever serves a
waiting client is told by ``on_visible`` when a queue has something again.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from pyqs_celery.local.attempts import answer_again, forget_answers, remember_answer
from pyqs_celery.local.errors import ApiError, invalid, missing
from pyqs_celery.local.messages import (
    ACCOUNT,
    DEDUP_SECONDS,
    IN_FLIGHT_MOST,
    MAX_MESSAGE_BYTES,
    Message,
    Queue,
    attributes_md5,
    attributes_size,
    plausible_receipt,
)
from pyqs_celery.local.shown import shown
from pyqs_celery.local.trouble import Trouble

_NAME = re.compile(r"^[A-Za-z0-9_-]{1,80}$")
_FIFO_ID = re.compile(r"^[!-~]{1,128}$")
"""Group and deduplication ids: letters, digits and punctuation (AWS: SendMessage)."""
_BATCH_ID = re.compile(r"^[A-Za-z0-9_-]{1,80}$")
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
Request = dict[str, Any]


class Journal(Protocol):
    """Where changes are written so that they survive a restart."""

    def queue_saved(self, queue: Queue) -> None:
        """A queue was created or changed."""
        ...

    def queue_dropped(self, name: str) -> None:
        """A queue was deleted."""
        ...

    def message_saved(self, queue: Queue, message: Message) -> None:
        """A message came or changed."""
        ...

    def message_dropped(self, message: Message) -> None:
        """A message was deleted."""
        ...


class Store:
    """All queues of one embedded SQS.

    ``clock`` gives epoch seconds. ``endpoint`` is the start of queue URLs. ``stats`` counts what happened to
    messages; ``log``, when a list, receives (time, event, queue, message id, detail).
    """

    def __init__(
        self, clock: Callable[[], float], endpoint: str = "http://127.0.0.1", journal: Journal | None = None
    ) -> None:
        self.clock = clock
        self.endpoint = endpoint
        self.journal = journal
        self.queues: dict[str, Queue] = {}
        self.stats: Counter[str] = Counter()
        self.log: list[list[Any]] | None = None
        self.on_visible: Callable[[str], None] = lambda queue: None
        self.in_flight_most = IN_FLIGHT_MOST
        self.trouble: Trouble | None = None

    def url(self, queue: Queue) -> str:
        """The queue's URL."""
        return f"{self.endpoint}/{ACCOUNT}/{queue.name}"

    def find(self, request: Request) -> Queue:
        """The queue a request is about, by the last part of its QueueUrl."""
        url = request.get("QueueUrl")
        if not url:
            raise missing("QueueUrl")
        return self.named(str(url).rsplit("/", 1)[-1])

    def named(self, name: str) -> Queue:
        """A queue by its name."""
        queue = self.queues.get(name)
        if queue is None:
            raise ApiError("QueueDoesNotExist", "The specified queue does not exist.")
        return queue

    def note(self, event: str, queue: Queue, message: Message | None, detail: Any = None) -> None:
        """Put what happened to a message into the event log, if one is kept."""
        self.log_line(event, queue.name, message.id if message else None, detail)

    def log_line(self, event: str, queue: str, message: str | None, detail: Any) -> None:
        """Put a line into the event log, if one is kept."""
        if self.log is not None:
            self.log.append([self.clock(), event, queue, message, detail])

    def save(self, queue: Queue, message: Message) -> None:
        """Write a message's present state to the journal."""
        if self.journal is not None:
            self.journal.message_saved(queue, message)

    def refresh(self, queue: Queue) -> None:
        """Bring a queue up to the present: leases that ran out, delays that ended, messages past retention."""
        now = self.clock()
        for message in queue.promote(now):
            self.stats["visibility_expired"] += 1
            self.note("visible_again", queue, message, message.count)
        for message in queue.outdated(now):
            self.stats["retention"] += 1
            self.drop(queue, message, "retention")

    def drop(self, queue: Queue, message: Message, event: str) -> None:
        """Forget a message for good."""
        queue.forget(message)
        self.note(event, queue, message, message.count)
        if self.journal is not None:
            self.journal.message_dropped(message)

    # -- sending -----------------------------------------------------------------------------------

    def send(self, queue: Queue, entry: Request) -> dict[str, Any]:
        """SendMessage for one entry."""
        self._check_sendable(queue, entry)
        message = Message(
            entry["MessageBody"],
            self.clock(),
            attributes=entry.get("MessageAttributes"),
            system_attributes=entry.get("MessageSystemAttributes"),
            group=entry.get("MessageGroupId"),
        )
        answer = {"MessageId": message.id, "MD5OfMessageBody": message.md5}
        if message.attributes:
            answer["MD5OfMessageAttributes"] = attributes_md5(message.attributes)
        if queue.fifo:
            message.dedup = entry.get("MessageDeduplicationId") or _content_hash(queue, message.body)
            earlier = self._duplicate(queue, message)
            if earlier is not None:
                self.stats["deduplicated"] += 1
                return answer | {"MessageId": earlier[1], "SequenceNumber": f"{earlier[2]:020d}"}
            answer["SequenceNumber"] = f"{message.sequence:020d}"
        delay = entry.get("DelaySeconds")
        self._place(queue, message, queue.number("DelaySeconds") if delay is None else delay)
        return answer

    def _check_sendable(self, queue: Queue, entry: Request) -> None:
        body = entry.get("MessageBody")
        if not body:
            raise missing("MessageBody")
        limit = queue.number("MaximumMessageSize")
        if _FORBIDDEN.search(body):
            raise ApiError("InvalidMessageContents", "Invalid characters found in the message body.")
        if len(body.encode("utf-8")) + attributes_size(entry.get("MessageAttributes")) > limit:
            raise invalid(f"One or more parameters are invalid. Reason: Message must be shorter than {limit} bytes.")
        if len(entry.get("MessageAttributes") or ()) > 10:
            raise invalid("Number of message attributes exceeds the allowed maximum [10].")
        delay = entry.get("DelaySeconds")
        if delay is not None and not 0 <= delay <= 900:
            raise invalid(f"Value {delay} for parameter DelaySeconds is invalid. Reason: must be >= 0 and <= 900.")
        _check_ids(entry)
        if not queue.fifo:
            return
        if delay:
            raise invalid(f"Value {delay} for parameter DelaySeconds is not valid for this queue type.")
        if not entry.get("MessageGroupId"):
            raise missing("MessageGroupId")

    def _duplicate(self, queue: Queue, message: Message) -> tuple[float, str, int] | None:
        now = self.clock()
        while queue.dedup and next(iter(queue.dedup.values()))[0] <= now - DEDUP_SECONDS:
            queue.dedup.popitem(last=False)
        assert message.dedup is not None
        earlier = queue.dedup.get(message.dedup)
        if earlier is None:
            message.sequence = queue.next_number()
            queue.dedup[message.dedup] = (now, message.id, message.sequence)
        return earlier

    def _place(self, queue: Queue, message: Message, delay: int) -> None:
        if delay:
            message.state = "delayed"
            queue.delayed += 1
            queue.hide(message, self.clock() + delay)
        else:
            queue.ready.append(message)
        self.stats["messages_in"] += 1
        self.note("send", queue, message, delay)
        if message.group is not None:
            self.note("group", queue, message, message.group)
        self.save(queue, message)
        self.on_visible(queue.name)

    # -- receiving ---------------------------------------------------------------------------------

    def receive(self, queue: Queue, request: Request) -> list[dict[str, Any]]:
        """The messages a ReceiveMessage gets now, perhaps none."""
        most = request.get("MaxNumberOfMessages", 1)
        if not 1 <= most <= 10:
            raise invalid(f"Value {most} for parameter MaxNumberOfMessages is invalid. Reason: must be 1 to 10.")
        self.refresh(queue)
        timeout = request.get("VisibilityTimeout")
        timeout = queue.number("VisibilityTimeout") if timeout is None else timeout
        attempt = request.get("ReceiveRequestAttemptId") if queue.fifo else None
        now = self.clock()
        taken = answer_again(queue, attempt, now) if attempt else []
        if taken:
            return [self._show_again(queue, message, request, now + timeout) for message in taken]
        taken = self._pick(queue, most, wait_seconds(queue, request) > 0)
        if self.trouble is not None and timeout:
            taken += self.trouble.repeats(queue, most - len(taken))
        answers = []
        for message in taken:
            message.count += 1
            self.stats["redelivered"] += message.count > 1
            message.first_received = message.first_received or now
            queue.give_receipt(message)
            if timeout:
                self._take(queue, message, now + timeout)
            else:
                queue.insert(message)
            self.note("receive", queue, message, message.count)
            self.save(queue, message)
            answers.append(shown(queue, message, request))
        if attempt and timeout:
            remember_answer(queue, attempt, taken, now)
        self.stats["messages_out"] += len(answers)
        return answers

    def _take(self, queue: Queue, message: Message, until: float) -> None:
        if message.state != "inflight":
            message.state = "inflight"
            queue.inflight += 1
            queue.lock(message)
        queue.hide(message, until)
        if self.trouble is not None:
            self.trouble.received(queue, message)

    def _show_again(self, queue: Queue, message: Message, request: Request, until: float) -> dict[str, Any]:
        self.stats["answered_again"] += 1
        self.note("receive_again", queue, message, message.count)
        queue.hide(message, until)
        self.save(queue, message)
        return shown(queue, message, request)

    def _pick(self, queue: Queue, most: int, waits: bool) -> list[Message]:
        redrive = queue.redrive
        taken: list[Message] = []
        kept: list[Message] = []
        groups: set[str | None] = set()
        room = max(0, self.in_flight_most - queue.inflight)
        if not room and not queue.fifo and not waits:
            raise ApiError("OverLimit", f"Too many messages in flight on {queue.name}: {queue.inflight}.")
        most = min(most, room)
        if self.trouble is not None:
            self.trouble.mix(queue)
        while queue.ready and len(taken) < most:
            message = queue.ready.popleft()
            if message.state != "ready":
                continue
            if queue.fifo and message.group not in groups and queue.locked.get(message.group or ""):
                kept.append(message)
            elif redrive and message.count >= int(redrive["maxReceiveCount"]) and self._redrive(queue, message):
                continue
            else:
                groups.add(message.group)
                taken.append(message)
        queue.ready.extendleft(reversed(kept))
        return taken

    def _redrive(self, queue: Queue, message: Message) -> bool:
        assert queue.redrive is not None
        target = self.queues.get(queue.redrive["deadLetterTargetArn"].rsplit(":", 1)[-1])
        if target is None:
            return False
        self.note("dlq", queue, message, message.count)
        self.stats["dlq"] += 1
        if message.receipt is not None:
            queue.receipts.pop(message.receipt, None)
        message.source_arn = queue.arn
        self.move(message, target)
        return True

    def move(self, message: Message, target: Queue) -> None:
        """Put a message, as new, at the end of another queue."""
        message.state, message.count, message.receipt = "ready", 0, None
        message.sequence = target.next_number()
        if target.fifo:
            message.sent = self.clock()  # only FIFO queues count its age anew (AWS: dead-letter queue retention)
        target.oldest = min(target.oldest, message.sent)
        target.ready.append(message)
        self.save(target, message)
        self.on_visible(target.name)

    # -- what a receiver may do --------------------------------------------------------------------

    def delete(self, queue: Queue, handle: str) -> None:
        """DeleteMessage for one handle. A handle older than the latest receipt deletes nothing, as AWS warns."""
        self.refresh(queue)
        message = queue.receipts.get(handle)
        if message is None or message.receipt != handle:
            if message is None and not plausible_receipt(handle):
                raise ApiError("ReceiptHandleIsInvalid", f'The input receipt handle "{handle}" is not valid.')
            self.stats["delete_stale"] += 1
            self.note("delete_stale", queue, message)
            return
        if message.state == "ready" and message in queue.ready:
            queue.ready.remove(message)
        self.stats["messages_deleted"] += 1
        self.drop(queue, message, "delete")
        if self.trouble is not None:
            self.trouble.deleted(queue, message)
        if queue.fifo:
            self.on_visible(queue.name)

    def change_visibility(self, queue: Queue, handle: str, timeout: Any) -> None:
        """ChangeMessageVisibility for one handle."""
        if not isinstance(timeout, int) or not 0 <= timeout <= 43_200:
            raise invalid(f"Value {timeout} for parameter VisibilityTimeout is invalid. Reason: must be 0 to 43200.")
        self.refresh(queue)
        message = queue.receipts.get(handle)
        if message is None:
            if not plausible_receipt(handle):
                raise ApiError("ReceiptHandleIsInvalid", f'The input receipt handle "{handle}" is not valid.')
            raise invalid("Reason: Message does not exist or is not available for visibility timeout change.")
        if message.state != "inflight" or message.receipt != handle:
            raise ApiError("MessageNotInflight", "The specified message isn't in flight.")
        self.stats["visibility_changed"] += 1
        self.note("visibility", queue, message, timeout)
        queue.hide(message, self.clock() + timeout)
        if queue.attempts:
            forget_answers(queue, message)
        self.refresh(queue)
        self.save(queue, message)
        self.on_visible(queue.name)

    def batch(self, request: Request, one: Callable[[Request], dict[str, Any] | None], sized: bool) -> dict[str, Any]:
        """Run ``one`` over the entries; failures are told entry by entry, but one queue that is not there fails all."""
        self.find(request)
        entries = request.get("Entries") or []
        _check_batch(entries, sized)
        successful: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        for entry in entries:
            try:
                successful.append({**(one(entry) or {}), "Id": entry["Id"]})
            except ApiError as exc:
                failed.append({"Id": entry["Id"], "Code": exc.code, "Message": exc.message, "SenderFault": True})
        self.stats["batch_entries"] += len(entries)
        answer: dict[str, Any] = {}
        if successful:
            answer["Successful"] = successful
        if failed:
            answer["Failed"] = failed
        return answer

    # -- queues ------------------------------------------------------------------------------------

    def create(self, request: Request) -> Queue:
        """CreateQueue; the same name with the same attributes gives the queue that is there."""
        name = request.get("QueueName") or ""
        attributes = {key: str(value) for key, value in (request.get("Attributes") or {}).items()}
        fifo = name.endswith(".fifo")
        if not _NAME.match(name.removesuffix(".fifo")) or len(name) > 80:
            raise invalid("Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length")
        if (attributes.get("FifoQueue") == "true") != fifo:
            raise invalid("The name of a FIFO queue must end with the .fifo suffix, and FifoQueue must be true.")
        queue = self.queues.get(name)
        if queue is None:
            queue = self.queues[name] = Queue(name, attributes, request.get("tags") or {}, self.clock())
        for key, value in attributes.items():
            if queue.attributes.get(key) != value:
                raise ApiError("QueueNameExists", f"A queue of this name exists with a different {key}.")
        if self.journal is not None:
            self.journal.queue_saved(queue)
        return queue

    def drop_queue(self, queue: Queue) -> None:
        """DeleteQueue."""
        del self.queues[queue.name]
        if self.journal is not None:
            self.journal.queue_dropped(queue.name)

    def purge(self, queue: Queue) -> None:
        """PurgeQueue, once in 60 seconds."""
        now = self.clock()
        if now - queue.purged_at < 60:
            raise ApiError("PurgeQueueInProgress", f"Only one purge of {queue.name} is allowed every 60 seconds.")
        queue.purged_at = now
        for message in [*queue.ready, *(entry[2] for entry in queue.hidden)]:
            if message.state != "gone":
                self.drop(queue, message, "purge")
        queue.ready.clear()
        queue.hidden.clear()

    def described(self, queue: Queue) -> dict[str, str]:
        """GetQueueAttributes with All."""
        self.refresh(queue)
        return {
            **queue.attributes,
            "QueueArn": queue.arn,
            "CreatedTimestamp": str(int(queue.created)),
            "LastModifiedTimestamp": str(int(queue.created)),
            "ApproximateNumberOfMessages": str(len(queue.ready)),
            "ApproximateNumberOfMessagesNotVisible": str(queue.inflight),
            "ApproximateNumberOfMessagesDelayed": str(queue.delayed),
        }


def _content_hash(queue: Queue, body: str) -> str:
    if queue.attributes.get("ContentBasedDeduplication") != "true":
        raise invalid(
            "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided"
        )
    return hashlib.sha256(body.encode("utf-8")).hexdigest()


def _check_ids(entry: Request) -> None:
    """Refuse group and deduplication ids with characters that AWS does not take."""
    for name in ("MessageGroupId", "MessageDeduplicationId"):
        value = entry.get(name)
        if value and not _FIFO_ID.match(value):
            raise invalid(
                f"Value {value} for parameter {name} is invalid. Reason: {name} can only include alphanumeric and "
                "punctuation characters. 1 to 128 in length."
            )


def _check_batch(entries: list[Request], sized: bool) -> None:
    if not entries:
        raise ApiError("EmptyBatchRequest", "There should be at least one entry in the request.")
    if len(entries) > 10:
        raise ApiError("TooManyEntriesInBatchRequest", f"Maximum number of entries is 10. You sent {len(entries)}.")
    ids = [entry.get("Id") or "" for entry in entries]
    if len(set(ids)) != len(ids):
        raise ApiError("BatchEntryIdsNotDistinct", "Two or more batch entries have the same Id.")
    if not all(_BATCH_ID.match(each) for each in ids):
        raise ApiError("InvalidBatchEntryId", "A batch entry id holds other than letters, digits, - and _.")
    if not sized:
        return
    total = sum(
        len((entry.get("MessageBody") or "").encode("utf-8")) + attributes_size(entry.get("MessageAttributes"))
        for entry in entries
    )
    if total > MAX_MESSAGE_BYTES:
        raise ApiError("BatchRequestTooLong", f"Batch requests cannot be longer than {MAX_MESSAGE_BYTES} bytes.")


def wait_seconds(queue: Queue, request: Request) -> int:
    """How long a ReceiveMessage may wait: as it says, or as its queue does."""
    wait = request.get("WaitTimeSeconds")
    return queue.number("ReceiveMessageWaitTimeSeconds") if wait is None else int(wait)


def list_page(names: list[str], request: Request) -> tuple[list[str], str | None]:
    """One page of ListQueues and the token of the next."""
    prefix, most, token = request.get("QueueNamePrefix") or "", request.get("MaxResults"), request.get("NextToken")
    found = sorted(name for name in names if name.startswith(prefix))
    if token:
        last = base64.b64decode(token).decode()
        found = [name for name in found if name > last]
    size = min(most or 1000, 1000)
    if most and len(found) > size:
        return found[:size], base64.b64encode(found[size - 1].encode()).decode()
    return found[:size], None


def redrive_sources(store: Store, target: Queue) -> list[Queue]:
    """Queues whose dead letters go to ``target``."""
    return [q for q in store.queues.values() if q.redrive and q.redrive["deadLetterTargetArn"] == target.arn]


def dumps(value: Any) -> bytes:
    """JSON as the server sends it."""
    return json.dumps(value, separators=(",", ":")).encode()
