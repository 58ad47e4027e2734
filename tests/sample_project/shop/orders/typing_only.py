from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery import Task
    from celery.result import AsyncResult


def wait(task: Task) -> AsyncResult: ...
