"""A received message as the answer to a ReceiveMessage shows it (AWS: ReceiveMessage, Message)."""

from __future__ import annotations

from typing import Any

from pyqs_celery.local.messages import Message, Queue, attributes_md5


def shown(queue: Queue, message: Message, request: dict[str, Any]) -> dict[str, Any]:
    """The message with the attributes that the request names."""
    found: dict[str, Any] = {
        "MessageId": message.id,
        "ReceiptHandle": message.receipt,
        "MD5OfBody": message.md5,
        "Body": message.body,
    }
    names = [*(request.get("MessageSystemAttributeNames") or ()), *(request.get("AttributeNames") or ())]
    system = _system_attributes(queue, message, names) if names else {}
    if system:
        found["Attributes"] = system
    wanted = request.get("MessageAttributeNames") or ()
    chosen = {k: v for k, v in (message.attributes or {}).items() if _is_wanted(k, wanted)}
    if chosen:
        found["MessageAttributes"] = chosen
        found["MD5OfMessageAttributes"] = attributes_md5(chosen)
    return found


def _system_attributes(queue: Queue, message: Message, names: list[str]) -> dict[str, str]:
    found = {
        "SenderId": "AIDALOCAL",
        "SentTimestamp": str(int(message.sent * 1000)),
        "ApproximateReceiveCount": str(message.count),
        "ApproximateFirstReceiveTimestamp": str(int(message.first_received * 1000)),
    }
    if message.group:
        found["MessageGroupId"] = message.group
    if queue.fifo:
        found["SequenceNumber"] = f"{message.sequence:020d}"
        found["MessageDeduplicationId"] = message.dedup or ""
    trace = (message.system_attributes or {}).get("AWSTraceHeader")
    if trace:
        found["AWSTraceHeader"] = trace.get("StringValue", "")
    if message.source_arn:
        found["DeadLetterQueueSourceArn"] = message.source_arn
    return found if "All" in names else {key: value for key, value in found.items() if key in names}


def _is_wanted(name: str, wanted: Any) -> bool:
    return any(w in ("All", ".*") or w == name or (w.endswith(".*") and name.startswith(w[:-2])) for w in wanted)
