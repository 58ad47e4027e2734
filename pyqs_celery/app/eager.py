"""Tasks that are run where they are called, for ``apply()`` and ``task_always_eager``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyqs_celery import _state, states
from pyqs_celery.app.request import Context
from pyqs_celery.app.trace import tracer_of
from pyqs_celery.utils.collections import listed

if TYPE_CHECKING:
    from pyqs_celery.app.task import Task


def apply_eagerly(task: Task, args: Any, kwargs: Any, task_id: str, throw: bool, options: dict[str, Any]) -> Any:
    """Run a task in this process, retries included, and give its EagerResult. Countdowns are not waited for."""
    from pyqs_celery.result import EagerResult

    app = task.app
    link, link_error = options.get("link"), options.get("link_error")
    parent = getattr(_state.get_current_task(), "request", None)
    stamped = options.get("stamped_headers")
    request = Context(
        options.get("headers") or {},
        id=task_id,
        task=task.name,
        retries=options.get("retries") or 0,
        is_eager=True,
        called_directly=False,
        headers=options.get("headers"),
        callbacks=listed(link) or None,
        errbacks=listed(link_error) or None,
        parent_id=parent.id if parent is not None else None,
        root_id=(parent.root_id if parent is not None else None) or task_id,
        ignore_result=options.get("ignore_result"),
        stamped_headers=stamped,
        stamps={name: options.get(name) for name in stamped or ()} or None,
        timelimit=[task.time_limit, task.soft_time_limit] if task.time_limit or task.soft_time_limit else None,
        delivery_info={"is_eager": True, "exchange": "", "routing_key": options.get("queue"), "priority": None},
        hostname="localhost",
    )
    ended = tracer_of(app, task, "localhost", eager=True)(task_id, list(args), dict(kwargs), vars(request))
    if ended.state == states.RETRY:
        again = getattr(ended.value, "eager_call", None)
        if again is not None:
            more_args, more_kwargs, call = again
            kept = {
                "retries": call.get("retries"),
                "link": link,
                "link_error": link_error,
                "headers": options.get("headers"),
            }
            return apply_eagerly(task, more_args, more_kwargs, task_id, throw, kept)
    if ended.state == states.FAILURE and throw:
        raise ended.value
    traceback = ended.einfo.traceback if ended.einfo is not None else None
    return EagerResult(task_id, ended.value, ended.state, traceback=traceback, name=task.name)
