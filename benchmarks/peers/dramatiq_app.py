"""dramatiq with dramatiq-sqs."""

from __future__ import annotations

import os
from typing import Any

import dramatiq
from dramatiq_sqs import SQSBroker

from benchmarks import work

broker = SQSBroker(endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name="us-east-1")
dramatiq.set_broker(broker)
TASKS = {name: dramatiq.actor(body, queue_name="bench") for name, body in work.TASKS.items()}
for each in os.environ["BENCHMARK_QUEUES"].split(","):
    broker.declare_queue(each)


def send(task: str, *args: Any, queue: str) -> None:
    """One ``.send()``."""
    if queue == "bench":
        TASKS[task].send(*args)
    else:
        broker.enqueue(TASKS[task].message(*args).copy(queue_name=queue))
