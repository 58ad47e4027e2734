"""Values that describe one receipt of one SQS message, and the queue it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class RedrivePolicy:
    """A queue's own dead-letter rule (AWS: ``RedrivePolicy``)."""

    dead_letter_arn: str
    max_receive_count: int

    @property
    def dead_letter_name(self) -> str:
        """The SQS name of the dead-letter queue, the last part of its ARN."""
        return self.dead_letter_arn.rsplit(":", 1)[-1]


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """One SQS queue as the worker knows it.

    ``name`` is the SQS name (``email-tasks-send``), unique in a worker and the key used everywhere
    inside it. ``logical`` is the application's name for it (``email.tasks.send``) where known, else
    the SQS name without the prefix. Durations are seconds, sizes bytes.
    """

    name: str
    url: str
    logical: str
    fifo: bool = False
    visibility_timeout_seconds: int = 30
    max_message_size: int = 1_048_576
    redrive: RedrivePolicy | None = None
    arn: str | None = None
    backoff_policy: Mapping[int, int] = field(default_factory=dict)
    backoff_tasks: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Delivery:
    """One receipt of one message: it has a receipt handle and, for a while, a lease.

    Times are epoch seconds. ``attributes`` are the SQS system attributes as received (text),
    ``message_attributes`` the user's, in the form boto3 returns them. ``unrun_count`` is after how many earlier
    receipts this worker gave it back unrun.
    """

    queue: str
    message_id: str
    receipt_handle: str
    body: str
    received_at: float
    receive_count: int = 1
    sent_at: float | None = None
    first_received_at: float | None = None
    group_id: str | None = None
    deduplication_id: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    message_attributes: Mapping[str, Any] = field(default_factory=dict)
    unrun_count: int = 0

    @property
    def tries(self) -> int:
        """Its receipts, but those that are known to have led to no run."""
        return max(1, self.receive_count - self.unrun_count)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to be sent. ``queue`` is the application's (logical) queue name.

    ``attributes`` is SQS's ``MessageAttributes`` structure, ``delay_seconds`` 0 to 900 or None.
    """

    queue: str
    body: str
    delay_seconds: int | None = None
    group_id: str | None = None
    deduplication_id: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
