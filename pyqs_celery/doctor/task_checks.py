"""Tasks: options that mean something else, or nothing, on SQS."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pyqs_celery.app.options import typo_of
from pyqs_celery.app.routes import find_route
from pyqs_celery.broker.limits import MAX_VISIBILITY_SECONDS
from pyqs_celery.doctor.code_checks import misspelt_options
from pyqs_celery.doctor.finding import Context, Finding


def own_tasks(context: Context) -> list[Any]:
    """The application's tasks, Celery's own left out."""
    if context.app is None:
        return []
    return [task for name, task in sorted(context.app.tasks.items()) if not name.startswith("celery.")]


def queue_of(app: Any, task: Any) -> str:
    """The application's name for the queue that a task goes to if its call does not say otherwise."""
    route = find_route(app.routes, task.name, (), {}, {}, task)
    queue = task.queue or route.get("queue")
    if not queue and (route.get("exchange") or route.get("routing_key")):
        return str(app.queue_for(str(route.get("exchange") or ""), str(route.get("routing_key") or "")))
    return str(getattr(queue, "name", queue) or app.conf.task_default_queue)


def check_tasks(context: Context) -> Iterable[Finding]:
    """Everything about single tasks."""
    tasks = own_tasks(context)
    in_files = misspelt_options(context) if tasks else set()
    for task in tasks:
        for option in vars(type(task)):
            meant = None if option.startswith("_") or option in in_files else typo_of(option)
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
    conf = context.app.conf
    limit = task.time_limit or conf.task_time_limit or task.soft_time_limit or conf.task_soft_time_limit
    if limit and limit > MAX_VISIBILITY_SECONDS:
        yield Finding(
            "error",
            "time-limit",
            task.name,
            f"its time limit of {limit:g}s is more than the 12 hours SQS lets a message be held; after that it runs twice",
            "split the task, or have it delete its message first with acks_late=False",
        )
    if (task.sqs_retry or conf.sqs_retry) == "native" and task.default_retry_delay > MAX_VISIBILITY_SECONDS:
        yield Finding(
            "info",
            "retry-delay",
            task.name,
            f"a retry after {task.default_retry_delay:g}s cannot be native: SQS hides a message for 12 hours at most",
            "nothing: such a retry is a new message",
        )
