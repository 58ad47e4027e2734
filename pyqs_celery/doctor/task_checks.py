"""Tasks: options that mean something else, or nothing, on SQS."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pyqs_celery.app.options import typo_of
from pyqs_celery.broker.limits import MAX_VISIBILITY_SECONDS
from pyqs_celery.doctor.finding import Context, Finding


def own_tasks(context: Context) -> list[Any]:
    """The application's tasks, Celery's own left out."""
    if context.app is None:
        return []
    return [task for name, task in sorted(context.app.tasks.items()) if not name.startswith("celery.")]


def check_tasks(context: Context) -> Iterable[Finding]:
    """Everything about single tasks."""
    for task in own_tasks(context):
        for option in vars(type(task)):
            meant = None if option.startswith("_") else typo_of(option)
            if meant and not hasattr(type(task).__mro__[1], option):
                yield Finding(
                    "warning",
                    "task-option",
                    task.name,
                    f"the option {option} only becomes an attribute; it looks like {meant}",
                    f"write {meant}",
                )
        yield from _times(context, task)
        if task.priority is not None:
            yield Finding(
                "info",
                "priority",
                task.name,
                "SQS has no priorities: priority= is written and ignored",
                "use a queue for each",
            )


def _times(context: Context, task: Any) -> Iterator[Finding]:
    assert context.app is not None
    limit = task.time_limit or context.app.conf.task_time_limit
    if limit and limit > MAX_VISIBILITY_SECONDS:
        yield Finding(
            "error",
            "time-limit",
            task.name,
            f"its time limit of {limit:g}s is more than the 12 hours SQS lets a message be held; after that it runs twice",
            "split the task, or have it delete its message first with acks_late=False",
        )
    if getattr(task, "sqs_retry", None) == "native" and task.default_retry_delay > MAX_VISIBILITY_SECONDS:
        yield Finding(
            "info",
            "retry-delay",
            task.name,
            f"a retry after {task.default_retry_delay:g}s cannot be native: SQS hides a message for 12 hours at most",
            "nothing: such a retry is a new message",
        )
