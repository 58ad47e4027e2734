"""The beat of ``worker -B``: a process (or thread) beside the consumer that ends when the manager closes its socket."""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING

from pyqs_celery.worker.config import WorkerConfig

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery


def tick(app: Celery, config: WorkerConfig, channel: socket.socket) -> None:
    """Be the beat until the other end of ``channel`` is closed, or its process is gone."""
    from pyqs_celery.beat.service import Service

    def is_over(seconds: float) -> bool:
        return bool(select.select([channel], [], [], seconds)[0])

    app.set_current()
    with channel:
        Service(app, None, config.beat_schedule, config.beat_scheduler).start(embedded_process=True, wait=is_over)
