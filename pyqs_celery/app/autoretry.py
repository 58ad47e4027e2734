"""``autoretry_for``: exceptions that retry a task by themselves, and how long they wait.

https://docs.celeryq.dev/en/stable/userguide/tasks.html#automatic-retry-for-known-exceptions
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from pyqs_celery.exceptions import Ignore, Retry

if TYPE_CHECKING:
    from pyqs_celery.app.task import Task


def add_autoretry(task: Task) -> None:
    """Wrap ``run`` so that the exceptions of ``autoretry_for`` retry the task."""
    import inspect

    original: Callable[..., Any] = task.run
    if inspect.iscoroutinefunction(original):

        @wraps(original)
        async def run_async(*args: Any, **kwargs: Any) -> Any:
            try:
                return await original(*args, **kwargs)
            except Exception as exc:  # noqa: BLE001 - which ones retry is the task's to say
                _retry_or_raise(task, exc)

        wrapped: Any = run_async
    else:

        @wraps(original)
        def run(*args: Any, **kwargs: Any) -> Any:
            try:
                return original(*args, **kwargs)
            except Exception as exc:  # noqa: BLE001 - as above
                _retry_or_raise(task, exc)

        wrapped = run
    task.run = wrapped  # type: ignore[method-assign]
    task._orig_run = original  # type: ignore[attr-defined]


def _retry_or_raise(task: Task, exc: Exception) -> None:
    if isinstance(exc, (Ignore, Retry, *task.dont_autoretry_for)) or not isinstance(exc, tuple(task.autoretry_for)):
        raise exc
    again = dict(getattr(task, "retry_kwargs", None) or {})
    if getattr(task, "retry_backoff", False):
        again["countdown"] = backoff_delay(task)
    if "override_max_retries" in again:
        again["max_retries"] = again.pop("override_max_retries")
    ret = task.retry(exc=exc, throw=False, **again)
    raise ret from exc


def backoff_delay(task: Task) -> int:
    """The seconds before the next automatic retry: doubled each time, bounded, and random below that unless told not."""
    factor = int(max(1, task.retry_backoff))  # type: ignore[attr-defined]
    most = int(getattr(task, "retry_backoff_max", 600))
    delay: int = min(most, factor * 2**task.request.retries)
    if getattr(task, "retry_jitter", True):
        import random

        delay = random.randrange(delay + 1)
    return max(0, delay)
