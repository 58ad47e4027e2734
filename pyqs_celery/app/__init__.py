"""The application: configuration, the task registry, and sending."""

from __future__ import annotations

from typing import Any

from pyqs_celery import _state
from pyqs_celery.app.base import Celery
from pyqs_celery.app.shared import shared_task
from pyqs_celery.app.task import Context, Task

__all__ = ("Celery", "Context", "Task", "app_or_default", "shared_task")


def app_or_default(app: Any = None) -> Celery:
    """``app`` itself, or the current app."""
    return _state.get_current_app() if app is None else app
