"""``shared_task``: a task before there is an app, and in every app there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyqs_celery import _state
from pyqs_celery.local_proxy import Proxy


def shared_task(*args: Any, **options: Any) -> Any:
    """Decorate a function as a task of every app, those made later included.

    Takes the options of ``app.task``. The result stands for the current app's task of this name.
    https://docs.celeryq.dev/en/stable/userguide/tasks.html
    """

    def create(**options: Any) -> Callable[[Any], Any]:
        def decorate(fun: Any) -> Any:
            name = options.get("name")
            _state.connect_on_app_finalize(lambda app: app._task_from_fun(fun, **options))
            return Proxy(lambda: _current_task(fun, name))

        return decorate

    if len(args) == 1 and callable(args[0]):
        return create(**options)(args[0])
    if args:
        raise TypeError("shared_task takes one function or keyword options")
    return create(**options)


def _current_task(fun: Any, name: str | None) -> Any:
    app = _state.get_current_app()
    app.finalize(auto=True)
    return app.tasks[name or app.gen_task_name(fun.__name__, fun.__module__)]
