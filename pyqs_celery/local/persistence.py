"""The embedded SQS in a SQLite file, so that a restart of the development machine loses nothing."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from pyqs_celery.local.messages import Message, Queue
from pyqs_celery.local.store import Store

_SCHEMA = """
CREATE TABLE IF NOT EXISTS queues (name TEXT PRIMARY KEY, facts TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS messages (id TEXT PRIMARY KEY, queue TEXT NOT NULL, facts TEXT NOT NULL);
"""


class SqliteJournal:
    """Writes each change of a queue or message; ``restore`` puts all of them back into a store.

    Raises sqlite3.Error if the file is no database or cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_SCHEMA)

    def queue_saved(self, queue: Queue) -> None:
        """Remember a queue."""
        facts = {"attributes": queue.attributes, "tags": queue.tags, "created": queue.created}
        self._db.execute("INSERT OR REPLACE INTO queues VALUES (?, ?)", (queue.name, json.dumps(facts)))

    def queue_dropped(self, name: str) -> None:
        """Forget a queue and its messages."""
        self._db.execute("DELETE FROM queues WHERE name = ?", (name,))
        self._db.execute("DELETE FROM messages WHERE queue = ?", (name,))

    def message_saved(self, queue: Queue, message: Message) -> None:
        """Remember a message's present state."""
        facts = {slot: getattr(message, slot) for slot in Message.__slots__ if slot != "id"}
        self._db.execute(
            "INSERT OR REPLACE INTO messages VALUES (?, ?, ?)", (message.id, queue.name, json.dumps(facts))
        )

    def message_dropped(self, message: Message) -> None:
        """Forget a message."""
        self._db.execute("DELETE FROM messages WHERE id = ?", (message.id,))

    def restore(self, store: Store) -> None:
        """Fill a fresh store. Leases that ran out meanwhile end at the next look."""
        for name, facts in self._db.execute("SELECT name, facts FROM queues"):
            value: dict[str, Any] = json.loads(facts)
            store.queues[name] = Queue(name, value["attributes"], value["tags"], value["created"])
        for identity, name, facts in self._db.execute("SELECT id, queue, facts FROM messages ORDER BY rowid"):
            queue = store.queues.get(name)
            if queue is not None:
                _put_back(queue, Message(id=identity, **json.loads(facts)))

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _put_back(queue: Queue, message: Message) -> None:
    queue.counter = max(queue.counter, message.sequence)
    if message.receipt is not None:
        queue.receipts[message.receipt] = message
    if message.state == "ready":
        queue.insert(message)
        return
    if message.state == "inflight":
        queue.inflight += 1
        queue.lock(message)
    else:
        queue.delayed += 1
    queue.hide(message, message.visible_at)
