"""``app.control``: SQS has no broadcast, so what would need one says so instead of being lost without a word.

``purge`` and what an application knows by itself work. https://docs.celeryq.dev/en/stable/userguide/workers.html#remote-control
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from pyqs_celery.exceptions import ControlUnavailable

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery

WHAT_TO_DO = {
    "revoke": "let the task look at a mark of your own, or give it expires=",
    "terminate": "stop its worker, or give it a time_limit",
    "shutdown": "send the worker SIGTERM",
    "ping": "look at the worker's process, its log or its messages in flight",
    "rate_limit": "set the task's rate_limit and restart the worker",
    "time_limit": "set the task's time_limit and restart the worker",
    "add_consumer": "start the worker with -Q and a pattern: it finds new queues by itself",
    "cancel_consumer": "restart the worker with -X for that queue",
    "pool_grow": "start another worker",
    "pool_shrink": "stop a worker",
    "pool_restart": "send the worker SIGHUP",
    "autoscale": "start or stop workers by the queue's depth",
    "heartbeat": "look at the worker's process",
    "election": "use beat_lock_queue, or a lock of your own",
    "enable_events": "read the worker's log, or connect to its signals",
    "disable_events": "there is nothing to disable",
}


def refuse(what: str) -> NoReturn:
    """Raise ControlUnavailable with what to do instead."""
    instead = WHAT_TO_DO.get(what, "ask the application itself, or AWS's console")
    raise ControlUnavailable(f"{what} needs a broadcast to all workers, which SQS does not have: {instead}")


class Inspect:
    """What ``app.control.inspect()`` gives. Every question to running workers raises ControlUnavailable."""

    def __init__(self, *args: Any, app: Celery | None = None, **kwargs: Any) -> None:
        self.app = app

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *args, **kwargs: refuse(f"inspect {name}")


class Control:
    """Celery's remote control as far as SQS allows."""

    Mailbox: Any = None

    def __init__(self, app: Celery) -> None:
        self.app = app

    def purge(self, connection: Any = None) -> int:
        """Delete all waiting messages of the application's queues; about how many there were. No undo."""
        from pyqs_celery.broker.purging import purge

        return sum(purge(self.app.broker_config(), self.app.consume_queues()).values())

    discard_all = purge

    def inspect(self, *args: Any, **kwargs: Any) -> Inspect:
        """An object whose methods ask running workers; each raises ControlUnavailable."""
        return Inspect(*args, app=self.app, **kwargs)

    def broadcast(self, command: str, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises ControlUnavailable."""
        refuse(command)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *args, **kwargs: refuse(name)
