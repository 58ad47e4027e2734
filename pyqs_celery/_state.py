"""Which app and which task are current in this thread."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from pyqs_celery.local_proxy import Proxy

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery

default_app: Celery | None = None
_tls = threading.local()
_apps: weakref.WeakSet[Celery] = weakref.WeakSet()
_on_finalize: list[Callable[[Celery], Any]] = []
_default_lock = threading.RLock()
_running: ContextVar[tuple[Any, ...]] = ContextVar("pyqs_celery_running_tasks", default=())


def register_app(app: Celery) -> None:
    """Remember an app so that shared tasks reach it."""
    _apps.add(app)


def set_current_app(app: Celery) -> None:
    """Make ``app`` the current one in this thread, and the default if there is none."""
    _tls.current_app = app


def set_default_app(app: Celery | None) -> None:
    """Make ``app`` what threads without a current app get."""
    global default_app  # noqa: PLW0603 - one per process is what a default app is
    default_app = app


def get_current_app() -> Celery:
    """The app of this thread, else the default, else a new default app configured by ``celeryconfig``."""
    found: Celery | None = getattr(_tls, "current_app", None) or default_app
    if found is not None:
        return found
    with _default_lock:
        if default_app is None:
            from pyqs_celery.app.base import Celery

            set_default_app(Celery("default", set_as_current=False))
        assert default_app is not None
        return default_app


def connect_on_app_finalize(callback: Callable[[Celery], Any]) -> Callable[[Celery], Any]:
    """Call ``callback(app)`` for every app when it is finalised, and now for those that are."""
    _on_finalize.append(callback)
    for app in tuple(_apps):
        if app.finalized:
            callback(app)
    return callback


def announce_app_finalized(app: Celery) -> None:
    """Run the callbacks for one app."""
    for callback in _on_finalize:
        callback(app)


def push_task(task: Any) -> Any:
    """Begin to run ``task`` in this context; gives what ``pop_task`` needs."""
    return _running.set((*_running.get(), task))


def pop_task(token: Any) -> None:
    """End it."""
    _running.reset(token)


def get_current_task() -> Any:
    """The task that runs in this context, None outside of one."""
    running = _running.get()
    return running[-1] if running else None


_blocks: ContextVar[bool | None] = ContextVar("pyqs_celery_join_blocks", default=None)


def task_join_will_block() -> bool:
    """True where waiting for a result would hold a worker's slot: inside a task, unless the contrary was said."""
    said = _blocks.get()
    if said is not None:
        return said
    request = getattr(get_current_task(), "request", None)
    return request is not None and not request.called_directly and not request.is_eager


@contextmanager
def join_blocks(blocks: bool) -> Iterator[None]:
    """Say whether results may be waited for inside this block."""
    token = _blocks.set(blocks)
    try:
        yield
    finally:
        _blocks.reset(token)


def _set_task_join_will_block(blocks: bool) -> None:
    """The same for the rest of this context; Celery's name."""
    _blocks.set(blocks)


class _TaskStack:
    """The running tasks as Celery's ``_task_stack`` shows them."""

    @property
    def top(self) -> Any:
        """The innermost, None outside of one."""
        return get_current_task()

    @property
    def stack(self) -> list[Any]:
        """All of them, the innermost last."""
        return list(_running.get())


_task_stack = _TaskStack()
current_app: Any = Proxy(get_current_app)
current_task: Any = Proxy(get_current_task)
