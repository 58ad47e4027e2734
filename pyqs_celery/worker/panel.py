"""What the consumer answers to local control, in the shapes of Celery's replies.

https://docs.celeryq.dev/en/stable/userguide/workers.html#inspecting-workers. Arguments are shown as their sender
described them, for the consumer opens no message.
"""

from __future__ import annotations

import logging
import os
import resource
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from pyqs_celery.app.control import NOWHERE, WHAT_TO_DO
from pyqs_celery.app.options import starts_per_second
from pyqs_celery.exceptions import ImproperlyConfigured, InvalidRequest
from pyqs_celery.utils.plain import plain
from pyqs_celery.worker.children import Children
from pyqs_celery.worker.config import WorkerConfig
from pyqs_celery.worker.core.engine import WorkerCore
from pyqs_celery.worker.core.held import Held
from pyqs_celery.worker.core.values import Note
from pyqs_celery.worker.discovery import Discovery
from pyqs_celery.worker.policies import TaskPolicies

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery

logger = logging.getLogger("celery.worker.control")
TEXT_MOST = 1024
"""How much of what a sender wrote is shown."""
REVOKED_MOST = 10_000
TASK_FACTS = ("exchange", "routing_key", "rate_limit")
REFUSED = {name: WHAT_TO_DO[name] for name in (*NOWHERE, "revoke", "terminate")}


@dataclass(frozen=True, slots=True)
class Answer:
    """What is replied; the slots whose children go then, and those of them that get no other child."""

    reply: Any
    retired: tuple[int, ...] = ()
    dismissed: tuple[int, ...] = ()


class Panel:
    """One consumer's answers. ``count`` and ``noted`` keep it up to date."""

    def __init__(
        self,
        app: Celery,
        config: WorkerConfig,
        core: WorkerCore,
        children: Children,
        policies: TaskPolicies,
        discovery: Discovery,
    ) -> None:
        self._app = app
        self._config = config
        self._core = core
        self._children = children
        self._policies = policies
        self._discovery = discovery
        self._began = time.monotonic()
        self._total: Counter[str] = Counter()
        self._revoked: deque[str] = deque(maxlen=REVOKED_MOST)
        self._commands: dict[str, Callable[[dict[str, Any]], Any]] = {
            "ping": lambda _: {"ok": "pong"},
            "active": lambda _: self._infos({"running"}),
            "reserved": lambda _: self._infos({"received", "ready", "unrecorded"}),
            "scheduled": lambda _: self._scheduled(),
            "query_task": self._query_task,
            "revoked": lambda _: list(self._revoked),
            "registered": self._registered,
            "active_queues": lambda _: self._active_queues(),
            "stats": lambda _: self._stats(),
            "conf": lambda given: plain(app.conf.table(with_defaults=bool(given.get("with_defaults")))),
            "report": lambda _: {"ok": app.bugreport()},
            "clock": lambda _: {"clock": int(time.monotonic() - self._began)},
            "rate_limit": self._rate_limit,
            "time_limit": self._time_limit,
            "add_consumer": self._add_consumer,
            "cancel_consumer": self._cancel_consumer,
            "pool_shrink": self._shrink,
            "pool_restart": lambda _: self._restart(),
        }

    def count(self, task: str | None) -> None:
        """A task is begun."""
        if task is not None and task in self._app.tasks:
            self._total[task] += 1

    def noted(self, note: Note) -> None:
        """The core has said something."""
        if note.event in ("revoked", "terminated") and note.head is not None and note.head.id:
            self._revoked.append(note.head.id[:TEXT_MOST])

    def answer(self, command: str, arguments: dict[str, Any]) -> Answer:
        """Answer a question, or do as asked. What goes wrong is an answer with an error."""
        if command in REFUSED:
            return Answer({"error": f"{command}: {REFUSED[command]}"})
        act = self._commands.get(command)
        if act is None:
            return Answer(
                {"error": f"there is no command {command[:100]!r}; there are {', '.join(sorted(self._commands))}"}
            )
        try:
            reply = act(arguments)
        except ValueError as exc:
            return Answer({"error": f"{command}: {exc}"})
        except Exception as exc:  # whatever a question does, the worker goes on
            logger.exception("The command %s of local control failed", command)
            return Answer({"error": f"{command} failed: {type(exc).__name__}: {exc}"})
        return reply if isinstance(reply, Answer) else Answer(reply)

    # -- looking -----------------------------------------------------------------------------------

    def _infos(self, states: set[str]) -> list[dict[str, Any]]:
        return [self._info(held) for held in self._core.view.ledger if held.state in states]

    def _info(self, held: Held) -> dict[str, Any]:
        head = held.head
        headers = head.raw_headers if head is not None else {}
        told = head.properties.get("delivery_info") if head is not None else None
        return {
            "id": held.task_id[:TEXT_MOST],
            "name": _text(head.task if head is not None else None),
            "args": _text(headers.get("argsrepr")),
            "kwargs": _text(headers.get("kwargsrepr")),
            "type": _text(head.task if head is not None else None),
            "hostname": self._config.hostname,
            "time_start": held.started_at or None,
            "acknowledged": held.acked_early and not held.waits_for_ack,
            "delivery_info": {
                "exchange": _text((told or {}).get("exchange")) or "",
                "routing_key": held.queue.logical,
                "priority": 0,
                "redelivered": held.delivery.receive_count > 1,
            },
            "worker_pid": self._children.pid(held.slot),
        }

    def _scheduled(self) -> list[dict[str, Any]]:
        return [
            {
                "eta": datetime.fromtimestamp(held.due_at, timezone.utc).isoformat(),
                "priority": 6,
                "request": self._info(held),
            }
            for held in self._core.view.ledger
            if held.state == "deferred"
        ]

    def _query_task(self, given: dict[str, Any]) -> dict[str, Any]:
        ids = given.get("ids") or ()
        wanted = {ids} if isinstance(ids, str) else set(_strings("ids", ids))
        names = {"running": "active", "deferred": "scheduled", "settling": "ready"}
        found = (held for held in self._core.view.ledger if held.task_id in wanted)
        return {held.task_id: [names.get(held.state, "reserved"), self._info(held)] for held in found}

    def _registered(self, given: dict[str, Any]) -> list[str]:
        facts = [name for name in _strings("attributes", given.get("taskinfoitems") or TASK_FACTS) if name[:1] != "_"]
        tasks = self._app.tasks
        names = (name for name in tasks if given.get("builtins") or not name.startswith("celery."))
        return [_described(tasks[name], facts) for name in sorted(names)]

    def _active_queues(self) -> list[dict[str, Any]]:
        queues = self._core.view.queues
        return [_queue(queues.policy(name).logical, name) for name in queues.names]

    def _stats(self) -> dict[str, Any]:
        config, core = self._config, self._core
        used = resource.getrusage(resource.RUSAGE_SELF)
        usage = {name.removeprefix("ru_"): getattr(used, name) for name in dir(used) if name.startswith("ru_")}
        held = core.snapshot()
        return {
            "total": dict(self._total),
            "pid": os.getppid() if config.pool == "prefork" else os.getpid(),
            "clock": str(int(time.monotonic() - self._began)),
            "uptime": int(time.monotonic() - self._began),
            "pool": {
                "implementation": f"pyqs_celery.{config.pool}",
                "max-concurrency": core.config.concurrency,
                "processes": [child.pid for child in self._children],
                "max-tasks-per-child": config.max_tasks_per_child or "N/A",
                "put-guarded-by-semaphore": False,
                "timeouts": [config.soft_time_limit or 0, config.time_limit or 0],
            },
            "broker": {"transport": "sqs", "hostname": self._app.consumer_broker_config().shown},
            "prefetch_count": held["capacity"],
            "rusage": usage,
            "sqs": {"states": held["states"], "queues": held["queues"]},
        }

    # -- changing ----------------------------------------------------------------------------------

    def _rate_limit(self, given: dict[str, Any]) -> Any:
        task, rate = self._task(given), given.get("rate_limit")
        if self._app.conf.worker_disable_rate_limits:
            raise ValueError("worker_disable_rate_limits is set, so no rate limit holds")
        try:
            starts_per_second(None if rate == "0" else rate)
        except ImproperlyConfigured as exc:
            raise ValueError(str(exc)) from exc
        task.rate_limit = rate or None
        self._policies.forget(task.name)
        logger.info("New rate limit for tasks of type %s: %s", task.name, rate)
        return {"ok": "new rate limit set successfully" if rate else "rate limit disabled successfully"}

    def _time_limit(self, given: dict[str, Any]) -> Any:
        task, soft, hard = self._task(given), _seconds("soft", given), _seconds("hard", given)
        if soft and hard and soft > hard:
            raise ValueError(f"the soft limit ({soft:g} s) must not be above the hard one ({hard:g} s)")
        task.soft_time_limit, task.time_limit = soft, hard
        self._policies.forget(task.name)
        logger.info("New time limits for tasks of type %s: soft=%s hard=%s", task.name, soft, hard)
        return {"ok": "time limits set successfully"}

    def _task(self, given: dict[str, Any]) -> Any:
        name = given.get("task_name")
        if not isinstance(name, str) or name not in self._app.tasks:
            raise ValueError(f"unknown task {str(name)[:100]!r}")
        return self._app.tasks[name]

    def _add_consumer(self, given: dict[str, Any]) -> Any:
        name = _queue_name(given)
        try:
            self._discovery.add(name)
        except InvalidRequest as exc:
            raise ValueError(str(exc)) from exc
        return {"ok": f"add consumer {name}"}

    def _cancel_consumer(self, given: dict[str, Any]) -> Any:
        name = _queue_name(given)
        self._discovery.cancel(name)
        return {"ok": f"no longer consuming from {name}"}

    def _shrink(self, given: dict[str, Any]) -> Any:
        number, slots = given.get("n", 1), given["slots"]
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise ValueError(f"it takes a whole number of at least 1, not {number!r}")
        if number >= len(slots):
            raise ValueError(f"there are {len(slots)} slots, of which at least one must remain")
        going = tuple(sorted(slots, key=lambda slot: (not self._core.is_idle(slot), -slot))[:number])
        return Answer({"ok": "pool will shrink"}, retired=going, dismissed=going)

    def _restart(self) -> Any:
        return Answer({"ok": "reload started"}, retired=tuple(child.slot for child in self._children))


def _text(value: Any) -> str | None:
    return None if value is None else str(value)[:TEXT_MOST]


def _strings(what: str, values: Any) -> Iterable[str]:
    if not isinstance(values, (list, tuple)) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{what} are a list of names")
    return values


def _seconds(name: str, given: dict[str, Any]) -> float | None:
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be seconds, not {value!r}")
    return float(value) or None


def _queue_name(given: dict[str, Any]) -> str:
    name = given.get("queue")
    if not isinstance(name, str) or not 0 < len(name) <= 200 or name.startswith("!"):
        raise ValueError("it takes the name of a queue, or a pattern")
    return name


def _described(task: Any, facts: Iterable[str]) -> str:
    shown = " ".join(f"{name}={value}" for name in facts if (value := getattr(task, name, None)) is not None)
    return f"{task.name} [{shown[:TEXT_MOST]}]" if shown else str(task.name)


def _queue(logical: str, name: str) -> dict[str, Any]:
    """A queue with the fields that Celery's has."""
    exchange = {
        "name": logical,
        "type": "direct",
        "arguments": None,
        "durable": True,
        "passive": False,
        "auto_delete": False,
        "delivery_mode": None,
        "no_declare": False,
    }
    rest: dict[str, Any] = dict.fromkeys(
        ("queue_arguments", "binding_arguments", "consumer_arguments", "alias", "bindings", "no_declare", "expires")
    )
    rest |= dict.fromkeys(("message_ttl", "max_length", "max_length_bytes", "max_priority"))
    flags = {"durable": True, "exclusive": False, "auto_delete": False, "no_ack": False}
    return {"name": logical, "exchange": exchange, "routing_key": logical, **rest, **flags, "sqs_name": name}
