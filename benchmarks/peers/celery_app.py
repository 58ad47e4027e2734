"""Real Celery, as its users write an application."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

from celery import Celery, group

from benchmarks import work

app = Celery("benchmark", broker=os.environ["BENCHMARK_CELERY_BROKER"])
app.conf.update(task_default_queue="bench", task_ignore_result=True)
app.conf.broker_transport_options = {
    "region": "us-east-1",
    "is_secure": False,
    **json.loads(os.environ.get("BENCHMARK_TRANSPORT_OPTIONS", "{}")),
}
TASKS = {name: app.task(name=f"benchmark.{name}")(body) for name, body in work.TASKS.items()}


def send(task: str, *args: Any, queue: str) -> None:
    """As a view of a web site would."""
    if queue == "bench":
        TASKS[task].delay(*args)
    else:
        TASKS[task].apply_async(args, queue=queue)


def send_many(task: str, each_args: Iterable[tuple[Any, ...]]) -> None:
    """A group of as many."""
    group(TASKS[task].s(*args) for args in each_args).apply_async()
