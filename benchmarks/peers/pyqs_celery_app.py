"""pyqs-celery, as its users write an application."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from benchmarks import work
from pyqs_celery import Celery, group

app = Celery("benchmark", broker="sqs://")
app.conf.update(task_default_queue="bench", task_ignore_result=True)
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
