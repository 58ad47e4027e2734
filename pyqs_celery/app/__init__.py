"""The application: configuration, the task registry, and sending."""

from __future__ import annotations

from typing import Any

from pyqs_celery import _state
from pyqs_celery.app.base import Celery
from pyqs_celery.app.shared import shared_task
from pyqs_celery.app.task import Context, Task
from pyqs_celery.local_proxy import Proxy

__all__ = (
    "Celery",
    "Context",
    "Task",
    "app_or_default",
    "bugreport",
    "default_app",
    "maybe_patch_concurrency",
    "shared_task",
)


def app_or_default(app: Any = None) -> Celery:
    """``app`` itself, or the current app."""
    return _state.get_current_app() if app is None else app


def bugreport(app: Any = None) -> str:
    """Versions and settings of ``app`` (the current one), secrets left out."""
    return app_or_default(app).bugreport()


def maybe_patch_concurrency(argv: Any = None, short_opts: Any = None, long_opts: Any = None) -> None:
    """Accepted for Celery's sake: there are no green threads whose patches would have to come first."""


default_app: Any = Proxy(_state.get_current_app)
