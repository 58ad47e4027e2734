"""PyQS's hooks: functions called before and after each task with a dictionary of facts.

``register_event("pre_process", fn)`` and ``register_event("post_process", fn)``; ``fn(context)`` gets message_id,
task_name, args, kwargs, full_task_path, fetch_time, queue_url, timeout and receipt_handle, and afterwards ``status``
("success" or "exception") and ``exception``. https://github.com/spulec/PyQS#hooks
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Hook = Callable[[dict[str, Any]], Any]


class NoEventException(Exception):
    """There is no event of that name."""


class Events:
    """The hooks that are registered."""

    def __init__(self) -> None:
        self.pre_process: list[Hook] = []
        self.post_process: list[Hook] = []

    def clear(self) -> None:
        """Forget all hooks."""
        self.pre_process = []
        self.post_process = []


_EVENTS = Events()


def register_event(name: str, callback: Hook) -> None:
    """Call ``callback(context)`` at each ``pre_process`` or ``post_process``. Raises NoEventException for other names."""
    if name not in ("pre_process", "post_process"):
        raise NoEventException(f"{name} is not a valid pyqs event.")
    getattr(_EVENTS, name).append(callback)


def get_events() -> Events:
    """The registered hooks."""
    return _EVENTS


def clear_events() -> None:
    """Forget all hooks."""
    _EVENTS.clear()
