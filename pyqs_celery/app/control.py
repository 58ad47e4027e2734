"""``app.control``: SQS has no broadcast, so what would need one says so instead of being lost without a word.

``revoke`` and ``terminate`` leave marks in the result store instead, which workers heed; ``purge`` and what an application
knows by itself work. https://docs.celeryq.dev/en/stable/userguide/workers.html#remote-control
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn

from pyqs_celery import revocation
from pyqs_celery.exceptions import ControlUnavailable

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery

WHAT_TO_DO = {
    "revoke": "app.control.revoke() works with a result_backend, in which it leaves a mark that workers heed",
    "terminate": "app.control.terminate() works with a result_backend, in which it leaves a mark that workers heed",
    "revoke_by_stamped_headers": "revoke the tasks by their ids",
    "terminate_by_stamped_headers": "terminate the tasks by their ids",
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

    def revoke(
        self,
        task_id: Any,
        destination: Any = None,
        terminate: bool = False,
        signal: Any = revocation.TERM,
        **kwargs: Any,
    ) -> list[Any] | None:
        """Mark a task, or a list of them, as revoked: workers discard it when they would start it, with state REVOKED.

        ``terminate``: where it runs already, its process is ended by ``signal`` within some seconds (prefork only), by
        SIGKILL if it withstands that. Needs ``result_backend``, where marks live as long as results (``result_expires``);
        raises ControlUnavailable without one. ``destination`` and Celery's other options change nothing; with ``reply`` a
        list with one reply is returned.
        """
        many = isinstance(task_id, Iterable) and not isinstance(task_id, str)
        task_ids = [str(each) for each in (task_id if many else [task_id])]
        revocation.revoke(self.app, task_ids, terminate=terminate, signal_name=signal)
        if not kwargs.get("reply"):
            return None
        return [{"result_backend": {"ok": f"tasks {', '.join(task_ids)} flagged as revoked"}}]

    def terminate(
        self, task_id: Any, destination: Any = None, signal: Any = revocation.TERM, **kwargs: Any
    ) -> list[Any] | None:
        """``revoke`` with ``terminate``."""
        return self.revoke(task_id, destination=destination, terminate=True, signal=signal, **kwargs)

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
