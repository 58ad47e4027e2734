"""What goes along when the worker itself moves a message to a dead-letter queue."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pyqs_celery.broker.delivery import Delivery, Outgoing
from pyqs_celery.broker.limits import MAX_BATCH_BYTES, MAX_MESSAGE_ATTRIBUTES
from pyqs_celery.broker.publisher import message_size
from pyqs_celery.utils.text import one_line


def dead_letter(delivery: Delivery, target: str, reason: str, exception: str | None) -> Outgoing:
    """The message for the dead-letter queue: the body byte for byte, the reason as attributes.

    The original's own attributes stay as far as SQS's ten allow. On FIFO queues the group stays, and the
    deduplication id is the message's id, so that a move repeated after a crash arrives once. A message so large that
    the reason does not fit beside it goes without.
    """
    reasons = {
        "pyqs.reason": one_line(reason or "failed", 1000),
        "pyqs.exception": one_line(exception or "", 200),
        "pyqs.receive_count": str(delivery.receive_count),
        "pyqs.queue": delivery.queue,
        "pyqs.message_id": delivery.message_id,
    }
    attributes: dict[str, Any] = {
        name: {"DataType": "String", "StringValue": value} for name, value in reasons.items() if value
    }
    for name, value in delivery.message_attributes.items():
        if len(attributes) == MAX_MESSAGE_ATTRIBUTES:
            break
        attributes.setdefault(name, sendable(value))
    fifo = target.endswith(".fifo")
    moved = Outgoing(
        target,
        delivery.body,
        group_id=delivery.group_id or ("default" if fifo else None),
        deduplication_id=_move_id(delivery) if fifo else None,
        attributes=attributes,
    )
    if message_size(moved) <= MAX_BATCH_BYTES:
        return moved
    return replace(moved, attributes={name: sendable(value) for name, value in delivery.message_attributes.items()})


def copy_of(delivery: Delivery, delay_seconds: int) -> Outgoing:
    """The same message again, delayed: one hop on the way to its ETA."""
    return Outgoing(
        delivery.queue,
        delivery.body,
        delay_seconds=delay_seconds,
        group_id=delivery.group_id,
        attributes={name: sendable(value) for name, value in delivery.message_attributes.items()},
    )


def sendable(value: Mapping[str, Any]) -> dict[str, Any]:
    """A received message attribute in the form SendMessage takes."""
    return {key: each for key, each in value.items() if key in ("DataType", "StringValue", "BinaryValue")}


def _move_id(delivery: Delivery) -> str:
    return hashlib.sha256(f"{delivery.queue}/{delivery.message_id}".encode()).hexdigest()
