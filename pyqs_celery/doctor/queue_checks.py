"""Queues as they are on SQS: is there a dead-letter queue, and do timeouts fit the tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

from pyqs_celery.app.retrying import is_native
from pyqs_celery.broker.delivery import QueueInfo
from pyqs_celery.broker.queues import dead_letter_name
from pyqs_celery.doctor.finding import Context, Finding
from pyqs_celery.doctor.task_checks import own_tasks, queue_of


def queues_of(context: Context) -> tuple[str, ...]:
    """The application's queues by its own names: those a worker without -Q serves, then those its tasks go to."""
    if context.app is None:
        return ()
    return tuple(
        dict.fromkeys([*context.app.consume_queues(), *(queue_of(context.app, task) for task in own_tasks(context))])
    )


def check_queues(context: Context) -> Iterable[Finding]:
    """Everything about the application's queues."""
    if context.app is None:
        return
    if context.queues is None:
        yield Finding(
            "info",
            "queues-unseen",
            "SQS",
            f"the queues were not looked at: {context.unreachable or 'not asked'}",
            "run this where the worker will run, with its credentials",
        )
        return
    for name in (*context.queues.missing, *context.queues.denied):
        yield Finding(
            "error",
            "queue-missing",
            name,
            "the queue does not exist, or GetQueueUrl on it is not allowed",
            "create it, or start the worker with --create-queues; allow sqs:GetQueueUrl and sqs:GetQueueAttributes",
        )
    for queue in context.queues.queues:
        yield from _queue(context, queue)


def _queue(context: Context, queue: QueueInfo) -> Iterator[Finding]:
    assert context.app is not None
    conf = context.app.conf
    target = dead_letter_name(queue.name, conf.sqs_dead_letter_queue)
    if queue.redrive is None and target is not None:
        yield Finding(
            "warning",
            "no-dead-letters",
            queue.logical,
            f"the queue has no redrive policy: at the {conf.worker_max_deliveries}th failure we move a message to {target}, "
            "which is created if it may be",
            "give the queue a RedrivePolicy with maxReceiveCount, or accept that",
        )
    elif queue.redrive is None:
        yield Finding(
            "error",
            "no-dead-letters",
            queue.logical,
            "the queue has no dead-letter queue and none may be made: a task that always fails comes back until retention ends",
            "give the queue a RedrivePolicy, or set sqs_dead_letter_queue",
        )
    elif queue.redrive.max_receive_count < 3:
        yield Finding(
            "warning",
            "few-receives",
            queue.logical,
            f"maxReceiveCount is {queue.redrive.max_receive_count}: a killed worker or a stop in the middle counts as a receipt",
            "set it to 3 or more",
        )
    if queue.fifo:
        yield Finding(
            "info",
            "fifo-group",
            queue.logical,
            "messages sent without MessageGroupId all go to the group 'default', which runs one at a time",
            "give MessageGroupId to apply_async, one for each thing whose order matters",
        )
    yield from _tasks_of(context, queue)


def _tasks_of(context: Context, queue: QueueInfo) -> Iterator[Finding]:
    assert context.app is not None
    for task in own_tasks(context):
        if queue_of(context.app, task) != queue.logical:
            continue
        yield from _expiring(context, queue, task)
        limit = task.time_limit or context.app.conf.task_time_limit
        if limit and limit > queue.visibility_timeout_seconds:
            yield Finding(
                "info",
                "long-task",
                task.name,
                f"it may run {limit:g}s, longer than the visibility timeout of {queue.logical} "
                f"({queue.visibility_timeout_seconds}s): Celery would run it twice, here its lease is renewed",
                "nothing, unless Celery workers stay on the queue",
            )
        if is_native(task, context.app.conf, {"queue": queue.name}) and queue.redrive and task.max_retries is not None:
            allowed = queue.redrive.max_receive_count - 1
            if task.max_retries > allowed:
                yield Finding(
                    "warning",
                    "retries-cut-short",
                    task.name,
                    f"its {task.max_retries} native retries end after {allowed}, when SQS moves the message (maxReceiveCount)",
                    "raise maxReceiveCount, or lower max_retries",
                )


def _expiring(context: Context, queue: QueueInfo, task: Any) -> Iterator[Finding]:
    """Tasks, and their entries in the schedule, that would expire only after SQS has deleted them."""
    assert context.app is not None
    kept = context.retention.get(queue.name)
    entries = (entry for entry in context.app.conf.beat_schedule.values() if isinstance(entry, dict))
    given = [task.expires, *((e.get("options") or {}).get("expires") for e in entries if e.get("task") == task.name)]
    longest = max(map(_seconds, given), default=0.0)
    if kept and longest > kept:
        yield Finding(
            "warning",
            "short-retention",
            task.name,
            f"it expires after {longest:g}s, but {queue.logical} keeps a message for {kept}s only: it vanishes without a word",
            "raise the queue's MessageRetentionPeriod (14 days at most), or lower expires",
        )


def _seconds(expires: Any) -> float:
    if isinstance(expires, timedelta):
        return expires.total_seconds()
    return float(expires) if isinstance(expires, (int, float)) else 0.0
