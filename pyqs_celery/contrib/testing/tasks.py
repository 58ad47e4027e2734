"""The task that a test worker is asked for: ``celery.ping``."""

from __future__ import annotations

from pyqs_celery.app.shared import shared_task


@shared_task(name="celery.ping")
def ping() -> str:
    """Say pong."""
    return "pong"
