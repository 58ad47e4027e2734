"""The floor: boto3 and nothing on top."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from functools import cache
from typing import Any

import boto3

client = boto3.client("sqs")


@cache
def queue_url(queue: str) -> str:
    """Its URL, asked for once."""
    return str(client.get_queue_url(QueueName=queue)["QueueUrl"])


def send(task: str, *args: Any, queue: str) -> None:
    """One message, one request."""
    client.send_message(QueueUrl=queue_url(queue), MessageBody=json.dumps({"task": task, "args": args}))


def send_many(task: str, each_args: Iterable[tuple[Any, ...]]) -> None:
    """Ten messages a request."""
    bodies = [json.dumps({"task": task, "args": args}) for args in each_args]
    for start in range(0, len(bodies), 10):
        entries = [{"Id": str(place), "MessageBody": body} for place, body in enumerate(bodies[start : start + 10])]
        client.send_message_batch(QueueUrl=queue_url("bench"), Entries=entries)


def queues() -> list[str]:
    """Those of this run."""
    return os.environ["BENCHMARK_QUEUES"].split(",")
