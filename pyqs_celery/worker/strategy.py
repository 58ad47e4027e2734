"""``celery.worker.strategy``: only the name; how a worker takes a message is in ``worker/core``."""

from __future__ import annotations

from typing import NoReturn


def default(*args: object, **kwargs: object) -> NoReturn:
    """Raises NotImplementedError: a task's Strategy is not asked here."""
    raise NotImplementedError("pyqs-celery does not use strategies: give the task hooks, or a Request class")
