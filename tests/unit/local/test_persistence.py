"""The embedded SQS in a file: what it held when it ended is there when it starts again."""

from __future__ import annotations

import asyncio

from pyqs_celery.local.persistence import SqliteJournal
from pyqs_celery.local.server import Server


def opened(path):
    """A server whose store is what the file holds."""
    loop = asyncio.new_event_loop()
    journal = SqliteJournal(str(path))
    server = Server(loop, journal=journal)
    journal.restore(server.store)

    def close():
        server.close()
        journal.close()
        loop.close()

    return server.store, close


def test_queues_messages_and_leases_survive_a_restart(tmp_path):
    path = tmp_path / "sqs.db"
    store, close = opened(path)
    queue = store.create({"QueueName": "a", "Attributes": {"VisibilityTimeout": "100"}})
    for body in ("one", "two", "gone"):
        store.send(queue, {"MessageBody": body})
    received = {message["Body"]: message for message in store.receive(queue, {"MaxNumberOfMessages": 2})}
    store.delete(queue, received["one"]["ReceiptHandle"])
    close()

    store, close = opened(path)
    queue = store.named("a")

    assert queue.inflight == 1
    assert [message["Body"] for message in store.receive(queue, {"MaxNumberOfMessages": 10})] == ["gone"]
    close()
