"""Applications for tests: queues and results in memory."""

from __future__ import annotations

import threading
import uuid
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

from pyqs_celery import _state
from pyqs_celery.app.base import Celery

DEFAULT_TEST_CONFIG: dict[str, Any] = {
    "worker_hijack_root_logger": False,
    "worker_log_color": False,
    "worker_redirect_stdouts": False,
    "accept_content": {"json"},
    "enable_utc": True,
    "timezone": "UTC",
    "result_backend": "cache+memory://",
    "broker_transport_options": {"wait_time_seconds": 1},
    "worker_shutdown_timeout": 5.0,
}


class Trap:
    """Stands for the current application and fails when it is used: whoever meets it should have been given an app."""

    def __getattr__(self, name: str) -> Any:
        # methods may be used as shared tasks while modules are imported
        if name in ("_is_fake_celery", "_is_coroutine"):
            raise AttributeError(name)
        raise RuntimeError("Test depends on current_app")


def TestApp(  # noqa: N802 - Celery's name
    name: str | None = None,
    config: dict[str, Any] | None = None,
    enable_logging: bool = False,  # noqa: ARG001 - Celery's; a test's log is the test runner's
    set_as_current: bool = False,
    log: Any = None,
    backend: Any = None,
    broker: Any = None,
    **kwargs: Any,
) -> Celery:
    """An application with a ``memory://`` broker of its own and results in memory."""
    app = Celery(
        name or "celery.tests",
        set_as_current=set_as_current,
        broker=broker or f"memory://{uuid.uuid4().hex}",
        backend=backend or f"cache+memory://{uuid.uuid4().hex}",
        log=log,
        **kwargs,
    )
    app.config_from_object({})
    app.add_defaults(deepcopy(DEFAULT_TEST_CONFIG))
    app.conf.update(config or {})
    return app


vars(TestApp)["__test__"] = False  # pytest would take it for a test class


@contextmanager
def set_trap(app: Any) -> Iterator[None]:  # noqa: ARG001 - Celery's signature
    """Inside the block no application is the current or the default one: using it fails."""
    trap = Trap()
    before_default, before_tls = _state.default_app, _state._tls
    _state.default_app = trap  # type: ignore[assignment]
    _state._tls = _NothingHere(trap)
    try:
        yield
    finally:
        _state.default_app, _state._tls = before_default, before_tls


class _NothingHere(threading.local):
    def __init__(self, trap: Trap) -> None:
        self.current_app = trap


@contextmanager
def setup_default_app(app: Any, use_trap: bool = False) -> Iterator[None]:
    """Inside the block ``app`` is the current and default application; what was is put back after it."""
    before_default, before_tls = _state.default_app, _state._tls
    before_apps = list(_state._apps)
    with set_trap(app) if use_trap else _nothing():
        app.set_current()
        if not use_trap:
            app.set_default()
        yield
    _state.default_app, _state._tls = before_default, before_tls
    _state._apps = weakref.WeakSet(before_apps)


@contextmanager
def _nothing() -> Iterator[None]:
    before = _state._tls
    _state._tls = threading.local()
    try:
        yield
    finally:
        _state._tls = before
