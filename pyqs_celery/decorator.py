"""PyQS's decorator: ``@task(queue="emails")`` gives a function a ``delay`` that sends a plain JSON message naming it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyqs_celery import _state
from pyqs_celery.broker.delivery import Outgoing
from pyqs_celery.wire.encode import native_body


class task:  # noqa: N801 - PyQS's name
    """Decorate a function as PyQS does.

    ``queue`` is the queue's name (None: the function's path), ``delay_seconds`` a delay of 0 to 900 for every call,
    which ``fn.delay(..., _delay_seconds=5)`` overrides, ``custom_function_path`` the path written into messages. The
    function itself stays as it is, and is registered as a task under its path. https://github.com/spulec/PyQS#tasks
    """

    def __init__(
        self, queue: str | None = None, delay_seconds: int | None = None, custom_function_path: str | None = None
    ) -> None:
        self.queue_name = queue
        self.delay_seconds = delay_seconds
        self.function_path = custom_function_path

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Give ``function`` its ``delay`` and register it."""
        path = self.function_path or f"{function.__module__}.{function.__name__}"
        function.delay = self._delayer(path)  # type: ignore[attr-defined]
        _state.connect_on_app_finalize(lambda app: app._task_from_fun(function, name=path, pyqs_native=True))
        return function

    def _delayer(self, path: str) -> Callable[..., None]:
        queue, default_delay = self.queue_name or path, self.delay_seconds

        def delay(*args: Any, _delay_seconds: int | None = None, **kwargs: Any) -> None:
            seconds = default_delay if _delay_seconds is None else _delay_seconds
            publisher = _state.get_current_app().publisher()
            publisher.send(Outgoing(queue, native_body(path, args, kwargs), delay_seconds=seconds or None))

        return delay
