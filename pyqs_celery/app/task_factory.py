"""From a decorated function to an instance of a task class of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyqs_celery.app.options import call_signature, warn_of_typos
from pyqs_celery.app.task import Task

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery


def task_from_function(
    app: Celery, fun: Callable[..., Any], name: str, base: type[Task], bind: bool, options: dict[str, Any]
) -> Task:
    """An instance of a subclass of ``base`` whose ``run`` is ``fun``."""
    warn_of_typos(name, options)
    if options.get("pydantic"):
        from pyqs_celery.app.pydantic_tasks import wrap

        fun = wrap(fun, app, name, options)
    run = fun if bind else staticmethod(fun)
    members = {
        "app": app,
        "name": name,
        "run": run,
        "_decorated": True,
        "bind_self": bind,
        "abstract": False,
        "__doc__": fun.__doc__,
        "__module__": fun.__module__,
        "__annotations__": getattr(fun, "__annotations__", {}),
        "__wrapped__": run,
        **options,
    }
    group = options.get("message_group_id")
    if callable(group):
        members["message_group_id"] = staticmethod(group)
    task: Task = type(fun.__name__, (base,), members)()
    task._signature = call_signature(fun, bind)
    return task
