"""Messages and queues of the embedded SQS: visibility, delay, FIFO order and its locks."""

from __future__ import annotations

import hashlib
import heapq
import json
import struct
from base64 import b64decode, b64encode
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import uuid4

MAX_MESSAGE_BYTES = 1_048_576
"""AWS raised the limit from 256 KiB to 1 MiB in 2025 (AWS: SendMessage)."""
IN_FLIGHT_MOST = 120_000
DEDUP_SECONDS = 300.0
RETENTION_STEP_SECONDS = 1.0
"""How long a message may outstay its queue's retention, so that old queues are not looked through at each request."""
ACCOUNT = "000000000000"
REGION = "us-east-1"

MessageState = Literal["ready", "delayed", "inflight", "gone"]


@dataclass(slots=True, eq=False)
class Message:
    """One stored message. Instants are epoch seconds; ``count`` is ApproximateReceiveCount."""

    body: str
    sent: float
    id: str = field(default_factory=lambda: str(uuid4()))
    attributes: dict[str, Any] | None = None
    system_attributes: dict[str, Any] | None = None
    state: MessageState = "ready"
    count: int = 0
    first_received: float = 0.0
    visible_at: float = 0.0
    receipt: str | None = None
    group: str | None = None
    dedup: str | None = None
    sequence: int = 0
    source_arn: str | None = None
    _md5: str = ""

    @property
    def md5(self) -> str:
        """MD5OfBody."""
        if not self._md5:
            self._md5 = hashlib.md5(self.body.encode("utf-8"), usedforsecurity=False).hexdigest()
        return self._md5


class Queue:
    """One queue: ``ready`` in order, ``hidden`` (delayed or in flight) by the instant they become visible."""

    def __init__(self, name: str, attributes: dict[str, str], tags: dict[str, str], created: float) -> None:
        self.name = name
        self.arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"
        self.fifo = name.endswith(".fifo")
        self.tags = dict(tags)
        self.created = created
        self.attributes = {
            "VisibilityTimeout": "30",
            "MaximumMessageSize": str(MAX_MESSAGE_BYTES),
            "DelaySeconds": "0",
            "MessageRetentionPeriod": "345600",
            "ReceiveMessageWaitTimeSeconds": "0",
        }
        if self.fifo:
            self.attributes |= {"FifoQueue": "true", "ContentBasedDeduplication": "false"}
        self.attributes.update(attributes)
        self.ready: deque[Message] = deque()
        self.hidden: list[tuple[float, int, Message]] = []
        self.receipts: dict[str, Message] = {}
        self.locked: Counter[str] = Counter()
        self.dedup: OrderedDict[str, tuple[float, str, int]] = OrderedDict()
        self.inflight = 0
        self.delayed = 0
        self.counter = 0
        self.purged_at = float("-inf")
        self.oldest = created
        self.attempts: OrderedDict[str, tuple[float, list[tuple[Message, str]]]] = OrderedDict()

    def number(self, name: str) -> int:
        """A numeric attribute."""
        return int(self.attributes[name])

    @property
    def redrive(self) -> dict[str, Any] | None:
        """The redrive policy, parsed."""
        policy = self.attributes.get("RedrivePolicy")
        return json.loads(policy) if policy else None

    def next_number(self) -> int:
        """A number that only grows: sequence numbers and receipts are made of it."""
        self.counter += 1
        return self.counter

    def hide(self, message: Message, until: float) -> None:
        """Keep a delayed or received message out of sight until an instant."""
        message.visible_at = until
        heapq.heappush(self.hidden, (until, self.next_number(), message))

    def promote(self, now: float) -> list[Message]:
        """Make visible what has waited long enough; the messages whose lease ran out are returned."""
        expired: list[Message] = []
        while self.hidden and self.hidden[0][0] <= now:
            until, _, message = heapq.heappop(self.hidden)
            if message.state == "gone" or message.visible_at != until or message.state == "ready":
                continue  # an older entry of a message that was hidden again
            if message.state == "inflight":
                self.inflight -= 1
                self.unlock(message)
                expired.append(message)
            else:
                self.delayed -= 1
            message.state = "ready"
            self.insert(message)
        return expired

    def outdated(self, now: float) -> list[Message]:
        """Messages older than the queue keeps any, in whatever state; ``oldest`` is a bound on the age of all of them."""
        limit = now - self.number("MessageRetentionPeriod")
        if self.oldest >= limit:
            return []
        alive = [*self.ready, *(entry[2] for entry in self.hidden if entry[2].state in ("delayed", "inflight"))]
        found = {message.id: message for message in alive if message.sent < limit}
        self.ready = deque(message for message in self.ready if message.sent >= limit)
        kept = min((message.sent for message in alive if message.sent >= limit), default=now)
        self.oldest = max(kept, limit + RETENTION_STEP_SECONDS)
        return list(found.values())

    def insert(self, message: Message) -> None:
        """Put a message among the ready: at the end, or on FIFO queues where its sequence belongs."""
        if not self.fifo or not self.ready or self.ready[-1].sequence < message.sequence:
            self.ready.append(message)
            return
        index = len(self.ready)
        while index and self.ready[index - 1].sequence > message.sequence:
            index -= 1
        self.ready.insert(index, message)

    def lock(self, message: Message) -> None:
        """Block the message's FIFO group while it is in flight."""
        if self.fifo and message.group is not None:
            self.locked[message.group] += 1

    def unlock(self, message: Message) -> None:
        """Free the message's FIFO group again."""
        if self.fifo and message.group is not None:
            self.locked[message.group] -= 1
            if self.locked[message.group] <= 0:
                del self.locked[message.group]

    def give_receipt(self, message: Message) -> str:
        """A new receipt handle; older ones stay known so that a late use of them can be told from nonsense."""
        packed = struct.pack(">16sQ", bytes.fromhex(message.id.replace("-", "")), self.next_number())
        message.receipt = b64encode(packed).decode("ascii")
        self.receipts[message.receipt] = message
        return message.receipt

    def forget(self, message: Message) -> None:
        """Take a message out for good."""
        if message.state == "inflight":
            self.inflight -= 1
            self.unlock(message)
        elif message.state == "delayed":
            self.delayed -= 1
        message.state = "gone"
        if message.receipt is not None:
            self.receipts.pop(message.receipt, None)

    def next_visible(self) -> float | None:
        """When the next hidden message becomes visible."""
        return self.hidden[0][0] if self.hidden else None


def plausible_receipt(handle: str) -> bool:
    """True for text that could have been a receipt handle of ours."""
    try:
        return len(b64decode(handle, validate=True)) == 24
    except ValueError:
        return False


def attributes_size(attributes: dict[str, Any] | None) -> int:
    """Bytes that message attributes count towards the message's size: names, types and values."""
    total = 0
    for name, value in (attributes or {}).items():
        total += len(name.encode()) + len(value.get("DataType", "").encode())
        total += len((value.get("StringValue") or "").encode()) + len(binary(value.get("BinaryValue")))
    return total


def binary(value: Any) -> bytes:
    """A binary attribute as bytes: base64 text over HTTP, bytes in process."""
    if not value:
        return b""
    return bytes(value) if isinstance(value, (bytes, bytearray)) else b64decode(value)


def attributes_md5(attributes: dict[str, Any]) -> str:
    """MD5OfMessageAttributes (AWS: Calculating the MD5 message digest for message attributes)."""
    digest = hashlib.md5(usedforsecurity=False)
    for name in sorted(attributes):
        value = attributes[name]
        for part in (name.encode(), value["DataType"].encode()):
            digest.update(struct.pack(">I", len(part)) + part)
        if value.get("StringValue") is not None:
            content, kind = value["StringValue"].encode(), b"\x01"
        else:
            content, kind = binary(value.get("BinaryValue")), b"\x02"
        digest.update(kind + struct.pack(">I", len(content)) + content)
    return digest.hexdigest()
