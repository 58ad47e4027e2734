"""``celery.concurrency.prefork``: what happens at the start and the end of a child process.

Agents replace these two functions; the child looks them up here when it starts and ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyqs_celery import signals

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery


def process_initializer(app: Celery, hostname: str) -> None:  # noqa: ARG001 - agents read it
    """Runs in a fresh child before its first task."""
    from pyqs_celery.utils.log import redirect_output

    redirect_output(app.conf)
    signals.worker_process_init.send(sender=None)


def process_destructor(pid: int, exitcode: int) -> None:
    """Runs in a child that is about to end."""
    signals.worker_process_shutdown.send(sender=None, pid=pid, exitcode=exitcode)
