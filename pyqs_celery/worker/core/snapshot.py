"""What the worker holds and runs, for people."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from pyqs_celery.worker.core.ledger import Ledger
from pyqs_celery.worker.core.queues import QueueTable
from pyqs_celery.worker.core.slots import Slots


class View(NamedTuple):
    """What a core holds, to be looked at only."""

    ledger: Ledger
    queues: QueueTable
    slots: Slots


def snapshot_of(ledger: Ledger, queues: QueueTable, slots: Slots) -> dict[str, Any]:
    """Counts by state and by queue, and what each slot runs."""
    running = {
        slot: {
            "task": held.head.task if held.head else None,
            "id": held.head.id if held.head else None,
            "queue": held.queue.name,
            "message_id": held.delivery.message_id,
            "started_at": held.started_at,
        }
        for slot, tag in slots.running()
        if (held := ledger.get(tag)) is not None
    }
    return {
        "states": dict(Counter(held.state for held in ledger)),
        "queues": queues.snapshot(),
        "slots": {"idle": slots.idle, "all": len(slots)},
        "running": running,
    }
