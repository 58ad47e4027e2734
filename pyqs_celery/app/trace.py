"""The seam at which instrumentation takes part in a run: ``build_tracer`` is asked once a task, and what it gives is called.

Sentry, New Relic and others replace ``celery.app.trace.build_tracer`` and wrap the callable it returns; they rely on its
name, on its first parameters and on the callable taking ``(uuid, args, kwargs, request)``.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pyqs_celery.app.request import Context
from pyqs_celery.local_proxy import maybe_evaluate

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery
    from pyqs_celery.app.task import Task

logger = logging.getLogger("celery.app.trace")
Tracer = Callable[..., Any]
LOG_SUCCESS = "Task %(name)s[%(id)s] succeeded in %(runtime)ss: %(return_value)s"
LOG_FAILURE = "Task %(name)s[%(id)s] %(description)s: %(exc)s"


def task_has_custom(task: Any, attr: str) -> bool:
    """True if a class between the task's own and ours defines ``attr``."""
    from pyqs_celery.app.task import Task

    for cls in type(maybe_evaluate(task)).__mro__:
        if cls is Task or cls is object:
            return False
        if attr in cls.__dict__:
            return True
    return False


def build_tracer(  # what wrappers are called with is given from outside
    name: str,  # noqa: ARG001
    task: Task,
    loader: Any = None,  # noqa: ARG001
    hostname: str | None = None,  # noqa: ARG001
    store_errors: bool = True,  # noqa: ARG001
    Info: Any = None,  # noqa: ARG001, N803
    eager: bool = False,  # noqa: ARG001
    propagate: bool = False,
    app: Celery | None = None,
    **_: Any,
) -> Tracer:
    """A function ``(uuid, args, kwargs, request)`` that performs one run of ``task`` and gives how it ended."""
    from pyqs_celery.execution import Run

    owner = app or task.app

    def trace_task(uuid: str, args: Any, kwargs: Any, request: Mapping[str, Any] | None = None) -> Any:
        context = Context()
        # the very dictionary: what a wrapper puts into it is seen, and nothing is copied
        object.__setattr__(context, "__dict__", request if isinstance(request, dict) else dict(request or {}))
        context.id = uuid
        return Run(owner, task, context, throw=propagate).perform(args, kwargs)

    return trace_task


def tracer_of(app: Celery, task: Task, hostname: str, *, eager: bool = False) -> Tracer:
    """The tracer of a task in this process; made at its first run, by whatever ``build_tracer`` is by then."""
    module: Any = sys.modules[tracer_of.__module__]
    known: dict[Any, Tracer] = task.__dict__.setdefault("_tracers", {})
    key = (module.build_tracer, eager)
    found = known.get(key)
    if found is None:
        found = known[key] = module.build_tracer(
            task.name, task, loader=app.loader, hostname=hostname, eager=eager, app=app
        )
    return found
