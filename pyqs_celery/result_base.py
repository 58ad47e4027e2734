"""What all results have in common, and the guard against waiting for one inside a task."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from pyqs_celery import _state

WOULD_BLOCK = (
    "Never call result.get() within a task! It holds a slot that the task waited for may need; use a chain, group or chord. "
    "See https://docs.celeryq.dev/en/latest/userguide/tasks.html#avoid-launching-synchronous-subtasks"
)


def assert_will_not_block() -> None:
    """Raises RuntimeError inside a task that a worker runs, unless ``allow_join_result()`` is in force."""
    if _state.task_join_will_block():
        raise RuntimeError(WOULD_BLOCK)


def allow_join_result() -> AbstractContextManager[None]:
    """Let results be waited for inside this block of a task."""
    return _state.join_blocks(False)


def denied_join_result() -> AbstractContextManager[None]:
    """Let no result be waited for inside this block."""
    return _state.join_blocks(True)


class ResultBase:
    """Base of all results; ``parent`` is the one before it in its chain."""

    parent: Any = None

    def as_tuple(self) -> Any:
        """How it is written into messages and documents."""
        raise NotImplementedError
