"""``app.control``: workers of this user on this host are asked by their sockets; SQS has no broadcast to reach others.

What nobody here can answer raises ControlUnavailable at once, instead of being lost without a word. ``revoke`` and
``terminate`` leave marks in the result store, which workers everywhere heed; ``purge`` and what an application knows by
itself work. https://docs.celeryq.dev/en/stable/userguide/workers.html#remote-control
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from pyqs_celery import nodes, revocation
from pyqs_celery.exceptions import ControlUnavailable

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery

WHAT_TO_DO = {
    "revoke": "app.control.revoke() works with a result_backend, in which it leaves a mark that workers heed",
    "terminate": "app.control.terminate() works with a result_backend, in which it leaves a mark that workers heed",
    "revoke_by_stamped_headers": "revoke the tasks by their ids",
    "terminate_by_stamped_headers": "terminate the tasks by their ids",
    "shutdown": "send the worker SIGTERM",
    "ping": "probe a worker on its own host (pyqs-celery health, inspect ping), or by its --health-port",
    "rate_limit": "set the task's rate_limit and restart the worker",
    "time_limit": "set the task's time_limit and restart the worker",
    "add_consumer": "start the worker with -Q and a pattern: it finds new queues by itself",
    "cancel_consumer": "restart the worker with -X for that queue",
    "pool_grow": "start another worker",
    "pool_shrink": "stop a worker",
    "pool_restart": "send the worker SIGHUP",
    "autoscale": "use pool_grow and pool_shrink, or start and stop workers by the queue's depth",
    "heartbeat": "look at the worker's process",
    "election": "use beat_lock_queue, or a lock of your own",
    "enable_events": "read the worker's log, or connect to its signals",
    "disable_events": "there is nothing to disable",
}
NOWHERE = frozenset(
    "revoke_by_stamped_headers terminate_by_stamped_headers autoscale heartbeat election enable_events disable_events".split()
)
"""What no worker can do, here or elsewhere."""
INSPECTS: dict[str, str] = {
    "active": "Tasks that run.",
    "active_queues": "Queues that are served.",
    "clock": "Seconds since the start; there is no logical clock.",
    "conf": "Settings.",
    "ping": "Whether the worker answers.",
    "query_task": "Where these tasks are: id ...",
    "registered": "Tasks that the worker knows.",
    "report": "Versions and settings for a question.",
    "reserved": "Tasks in hand that wait for a slot.",
    "revoked": "Tasks that were discarded as revoked.",
    "scheduled": "Tasks in hand that wait for their time.",
    "stats": "Numbers.",
}
"""What workers can be asked."""
CONTROLS: dict[str, tuple[str, ...]] = {
    "add_consumer": ("queue",),
    "cancel_consumer": ("queue",),
    "pool_grow": ("n",),
    "pool_restart": (),
    "pool_shrink": ("n",),
    "rate_limit": ("task_name", "rate_limit"),
    "shutdown": (),
    "time_limit": ("task_name", "soft", "hard"),
}
"""What workers do when asked, and what they are given, in the command line's order."""
Replies = list[dict[str, Any]]


def refuse(what: str) -> NoReturn:
    """Raise ControlUnavailable with what to do instead."""
    instead = WHAT_TO_DO.get(what.rpartition(" ")[2], "ask the application itself, or AWS's console")
    raise ControlUnavailable(
        f"{what}: no worker of this user answers on this host, and to reach others needs a broadcast to all workers, which "
        f"SQS does not have: {instead}"
    )


class Inspect:
    """What ``app.control.inspect()`` gives: questions to this host's workers, answered as ``{node: answer}``.

    ``destination`` are node names (a single name gives its answer alone), ``pattern`` is a glob of names, ``timeout`` in seconds.
    Raises ControlUnavailable where no worker is that could answer; gives None where none answers in time, as Celery does.
    """

    def __init__(
        self,
        destination: Any = None,
        timeout: float = 1.0,
        callback: Callable[[dict[str, Any]], Any] | None = None,
        connection: Any = None,
        app: Celery | None = None,
        limit: int | None = None,
        pattern: str | None = None,
        matcher: str | None = None,
    ) -> None:
        self.app = app
        self.destination = destination
        self.timeout = timeout
        self.callback = callback
        self.limit = limit
        self.pattern = pattern
        self.matcher = matcher

    def _request(self, command: str, **arguments: Any) -> Any:
        names = self.destination
        replies = Control.ask(
            command,
            arguments,
            destination=[names] if isinstance(names, str) else names,
            timeout=self.timeout,
            pattern=self.pattern,
            matcher=self.matcher,
            limit=self.limit,
            callback=self.callback,
            shown=f"inspect {command}",
        )
        by_node = {node: answer for reply in replies for node, answer in reply.items()}
        if isinstance(names, str):
            return by_node.get(names)
        return by_node or None

    def ping(self, destination: Any = None) -> Any:
        """``{node: {"ok": "pong"}}``."""
        self.destination = destination or self.destination
        return self._request("ping")

    def active(self, safe: bool | None = None) -> Any:
        """Tasks that run, a list of dictionaries for each node."""
        return self._request("active")

    def reserved(self, safe: bool | None = None) -> Any:
        """Tasks in hand that wait for a slot."""
        return self._request("reserved")

    def scheduled(self, safe: bool | None = None) -> Any:
        """Tasks in hand that wait for their time; most wait at SQS, where no worker sees them."""
        return self._request("scheduled")

    def registered(self, *taskinfoitems: str) -> Any:
        """The tasks that a worker knows, with some of their attributes."""
        return self._request("registered", taskinfoitems=list(taskinfoitems))

    registered_tasks = registered

    def query_task(self, *ids: Any) -> Any:
        """Where tasks are: ``{node: {id: [state, facts]}}``."""
        flat = ids[0] if len(ids) == 1 and isinstance(ids[0], (list, tuple)) else ids
        return self._request("query_task", ids=[str(each) for each in flat])

    def conf(self, with_defaults: bool = False) -> Any:
        """Settings, secrets left out."""
        return self._request("conf", with_defaults=with_defaults)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in INSPECTS:
            return lambda: self._request(name)
        return lambda *args, **kwargs: refuse(f"inspect {name}")


class Control:
    """Celery's remote control as far as SQS allows."""

    Mailbox: Any = None

    def __init__(self, app: Celery) -> None:
        self.app = app

    @staticmethod
    def ask(
        command: str,
        arguments: Mapping[str, Any],
        *,
        destination: Iterable[str] | None = None,
        timeout: float | None = 1.0,
        pattern: str | None = None,
        matcher: str | None = None,
        limit: int | None = None,
        callback: Callable[[dict[str, Any]], Any] | None = None,
        shown: str | None = None,
    ) -> Replies:
        """Ask this host's workers; their replies, ``[{node: answer}]``. Raises ControlUnavailable if there is none to ask."""
        if command in NOWHERE:
            raise ControlUnavailable(
                f"{command} is not possible, as it needs a broadcast, which SQS does not have: {WHAT_TO_DO[command]}"
            )
        if matcher not in (None, "glob"):
            raise ValueError(f"names can be matched by a glob, not by {matcher!r}")
        asked = nodes.ask(
            command,
            arguments,
            destination=destination,
            pattern=pattern,
            timeout=1.0 if timeout is None else timeout,
        )
        if not asked.replies and not asked.silent:
            refuse(shown or command)
        replies = [{node: answer} for node, answer in (*asked.replies.items(), *asked.twins)][:limit]
        for reply in replies:
            if callback is not None:
                callback(reply)
        return replies

    def broadcast(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        destination: Any = None,
        connection: Any = None,
        reply: bool = False,
        timeout: float | None = 1.0,
        limit: int | None = None,
        callback: Callable[[dict[str, Any]], Any] | None = None,
        channel: Any = None,
        pattern: str | None = None,
        matcher: str | None = None,
        **extra_kwargs: Any,
    ) -> Replies | None:
        """Put a command to this host's workers; with ``reply`` their answers, ``[{node: answer}]``.

        Raises ControlUnavailable where no worker is that could do it.
        """
        if isinstance(destination, str):
            destination = [destination]
        replies = self.ask(
            command,
            {**(arguments or {}), **extra_kwargs},
            destination=destination,
            timeout=timeout,
            pattern=pattern,
            matcher=matcher,
            limit=limit,
            callback=callback,
        )
        return replies if reply else None

    def ping(self, destination: Any = None, timeout: float = 1.0, **kwargs: Any) -> Replies:
        """``[{node: {"ok": "pong"}}]``."""
        return self.broadcast("ping", reply=True, destination=destination, timeout=timeout, **kwargs) or []

    def shutdown(self, destination: Any = None, **kwargs: Any) -> Replies | None:
        """Stop workers warmly."""
        return self.broadcast("shutdown", destination=destination, **kwargs)

    def pool_grow(self, n: int = 1, destination: Any = None, **kwargs: Any) -> Replies | None:
        """Add slots."""
        return self.broadcast("pool_grow", {"n": n}, destination, **kwargs)

    def pool_shrink(self, n: int = 1, destination: Any = None, **kwargs: Any) -> Replies | None:
        """Take slots away: the idle first, the busy when their task has ended."""
        return self.broadcast("pool_shrink", {"n": n}, destination, **kwargs)

    def pool_restart(
        self,
        modules: Any = None,
        reload: bool = False,
        reloader: Any = None,
        destination: Any = None,
        **kwargs: Any,
    ) -> Replies | None:
        """Replace all children, each when its task has ended. Code is not read anew: send SIGHUP for that."""
        return self.broadcast("pool_restart", {}, destination, **kwargs)

    def rate_limit(self, task_name: str, rate_limit: Any, destination: Any = None, **kwargs: Any) -> Replies | None:
        """Change how often a task may start in each worker."""
        return self.broadcast(
            "rate_limit", {"task_name": task_name, "rate_limit": rate_limit}, destination=destination, **kwargs
        )

    def time_limit(
        self,
        task_name: str,
        soft: float | None = None,
        hard: float | None = None,
        destination: Any = None,
        **kwargs: Any,
    ) -> Replies | None:
        """Change a task's time limits (seconds)."""
        arguments = {"task_name": task_name, "soft": soft, "hard": hard}
        return self.broadcast("time_limit", arguments, destination=destination, **kwargs)

    def add_consumer(self, queue: str, *args: Any, destination: Any = None, **kwargs: Any) -> Replies | None:
        """Serve a queue, or a pattern, too; what AMQP says of a queue's exchange changes nothing."""
        kept = {name: kwargs[name] for name in kwargs if name in ("reply", "timeout", "limit", "callback", "pattern")}
        return self.broadcast("add_consumer", {"queue": queue}, destination=destination, **kept)

    def cancel_consumer(self, queue: str, destination: Any = None, **kwargs: Any) -> Replies | None:
        """Serve a queue, or a pattern, no more; its unstarted messages go back."""
        return self.broadcast("cancel_consumer", {"queue": queue}, destination=destination, **kwargs)

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
        """An object whose methods ask running workers of this host."""
        return Inspect(*args, **{"app": self.app, **kwargs})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *args, **kwargs: refuse(name)
