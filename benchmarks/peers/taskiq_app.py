"""taskiq with taskiq-aio-sqs: what sends is asynchronous here."""

from __future__ import annotations

import os
from typing import Any

from taskiq_aio_sqs import SQSBroker
from taskiq_aio_sqs.queue import SQSQueue

from benchmarks import work

broker = SQSBroker(
    "bench",
    endpoint_url=os.environ["AWS_ENDPOINT_URL"],
    region_name="us-east-1",
    aws_access_key_id="x",
    aws_secret_access_key="x",  # noqa: S106 - the endpoint checks none
    max_number_of_messages=10,
)
others = [name for name in os.environ["BENCHMARK_QUEUES"].split(",") if name != "bench"]
if others:
    broker.with_queues(*[SQSQueue(name=name, max_number_of_messages=10, wait_time_seconds=10) for name in others])
TASKS = {name: broker.task(task_name=f"benchmark:{name}")(body) for name, body in work.TASKS.items()}


async def startup() -> None:
    """Before the first send."""
    await broker.startup()


async def shutdown() -> None:
    """After the last."""
    await broker.shutdown()


async def send(task: str, *args: Any, queue: str) -> None:
    """One ``.kiq()``."""
    if queue == "bench":
        await TASKS[task].kiq(*args)
    else:
        await TASKS[task].kicker().with_labels(queue=queue).kiq(*args)
