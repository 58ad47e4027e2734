"""The floor of a worker: receive ten, run them, delete ten, in so many processes that know nothing of each other."""

from __future__ import annotations

import json
import os
import sys

from benchmarks.peers import raw_app
from benchmarks.work import TASKS


def work(queue: str) -> None:
    """Until a signal ends it."""
    url, client = raw_app.queue_url(queue), raw_app.client
    while True:
        answer = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=20)
        messages = answer.get("Messages", [])
        for message in messages:
            wanted = json.loads(message["Body"])
            TASKS[wanted["task"]](*wanted["args"])
        if messages:
            entries = [{"Id": str(place), "ReceiptHandle": m["ReceiptHandle"]} for place, m in enumerate(messages)]
            client.delete_message_batch(QueueUrl=url, Entries=entries)


def main() -> None:
    """``raw_worker NUMBER``: fork so many processes; queues are given to them in turn."""
    queues = raw_app.queues()
    number = int(sys.argv[1])
    for place in range(1, number):
        if os.fork() == 0:
            work(queues[place % len(queues)])
    work(queues[0])


if __name__ == "__main__":
    main()
