"""The embedded SQS's back door: counters, state, faults and messages, for tests and benchmarks."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyqs_celery.local.access import Access
from pyqs_celery.local.errors import ApiError
from pyqs_celery.local.faults import Fault
from pyqs_celery.local.http import HttpRequest
from pyqs_celery.local.messages import IN_FLIGHT_MOST
from pyqs_celery.local.trouble import Trouble

if TYPE_CHECKING:
    from pyqs_celery.local.server import Server


class Admin:
    """Answers requests below ``/_admin``."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._access: dict[str, Any] = {"policies": {}, "expired_keys": []}
        self._table: dict[str, Callable[[dict[str, Any], str], Any]] = {
            "counters": lambda d, m: self.counters(),
            "state": lambda d, m: self.state(),
            "ping": lambda d, m: {"pid": os.getpid()},
            "reset": lambda d, m: server.reset_counts(),
            "wipe": lambda d, m: self.wipe(),
            "config": lambda d, m: self.configure(d),
            "clock": lambda d, m: self.move_clock(d),
            "inject": lambda d, m: self.inject(d),
            "peek": lambda d, m: self.peek(d),
            "eventlog": self.event_log,
        }

    def answer(self, request: HttpRequest) -> tuple[int, bytes]:
        """Status and JSON for one request."""
        found = self._table.get(request.path.rsplit("/", 1)[-1])
        if found is None:
            return 404, b'{"error": "no such admin page"}'
        try:
            value = found(json.loads(request.body) if request.body else {}, request.method)
        except (ApiError, KeyError, TypeError, ValueError) as exc:
            return 400, json.dumps({"error": repr(exc)}).encode()
        return 200, json.dumps({"ok": True} if value is None else value).encode()

    def counters(self) -> dict[str, Any]:
        """Requests by action and queue, and what happened to messages, since the last reset."""
        server = self.server
        return {
            "actions": dict(server.action_counts),
            "by_queue": dict(server.queue_counts),
            "stats": dict(server.store.stats),
            "total": sum(server.action_counts.values()),
            "seconds": time.time() - server.started,
        }

    def state(self) -> dict[str, Any]:
        """For each queue, how many messages are visible, in flight and delayed, and how many polls are open."""
        found = {}
        for queue in self.server.store.queues.values():
            self.server.store.refresh(queue)
            found[queue.name] = {
                "visible": len(queue.ready),
                "inflight": queue.inflight,
                "delayed": queue.delayed,
                "waiters": self.server.polls.waiting(queue.name),
            }
        return found

    def wipe(self) -> None:
        """Forget all queues, faults, policies and counts, and show the true time."""
        server = self.server
        server.store.queues.clear()
        server.faults.clear()
        server.latency = server.jitter = 0.0
        self._access = {"policies": {}, "expired_keys": []}
        server.access = server.store.trouble = server.store.log = None
        server.store.in_flight_most = IN_FLIGHT_MOST
        server.restore_clock()
        server.reset_counts()

    def configure(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Set latency, jitter, faults, and what else is named in ``wanted``; what is not stays as it is."""
        server = self.server
        server.latency = wanted.get("latency_ms", server.latency * 1000) / 1000
        server.jitter = wanted.get("jitter_ms", server.jitter * 1000) / 1000
        if "faults" in wanted:
            server.faults = [Fault.from_json(each, time.time()) for each in wanted["faults"]]
        if "in_flight_most" in wanted:
            server.store.in_flight_most = int(wanted["in_flight_most"])
        if "duplicates" in wanted or "shuffle" in wanted:
            now = server.store.trouble or Trouble(server.store, 0.0, False)
            duplicates, shuffle = (
                float(wanted.get("duplicates", now.duplicates)),
                bool(wanted.get("shuffle", now.shuffle)),
            )
            server.store.trouble = Trouble(server.store, duplicates, shuffle) if duplicates or shuffle else None
        if "policies" in wanted or "expired_keys" in wanted:
            self._access = {
                **self._access,
                **{key: wanted[key] for key in ("policies", "expired_keys") if key in wanted},
            }
            policies, expired = self._access["policies"], self._access["expired_keys"]
            server.access = Access.from_json(policies, expired) if policies or expired else None
        return {"latency_ms": server.latency * 1000, "jitter_ms": server.jitter * 1000, "faults": len(server.faults)}

    def move_clock(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Put the store's clock forward by ``advance`` seconds, or let it run at ``rate``; what it shows."""
        rate = wanted.get("rate")
        self.server.move_clock(float(wanted.get("advance", 0.0)), float(rate) if rate is not None else None)
        return {"now": self.server.store.clock()}

    def inject(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Put bodies on a queue without counting requests."""
        queue = self.server.store.named(wanted["queue"])
        for _ in range(wanted.get("copies", 1)):
            for body in wanted["bodies"]:
                self.server.store.send(queue, {"MessageBody": body, "MessageAttributes": wanted.get("attributes")})
        return {"visible": len(queue.ready)}

    def peek(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Look at waiting messages without receiving them."""
        queue = self.server.store.named(wanted["queue"])
        self.server.store.refresh(queue)
        found = list(queue.ready)[: wanted.get("n", 10)]
        return {
            "ids": [message.id for message in found],
            "bodies": [message.body for message in found],
            "attributes": [message.attributes for message in found],
        }

    def event_log(self, wanted: dict[str, Any], method: str) -> Any:
        """Switch the event log (POST ``on``), read it (GET), or take what is in it (POST ``take``), which empties it."""
        store = self.server.store
        events = store.log or []
        if wanted.get("take"):
            store.log = []
        elif method == "POST":
            store.log = [] if wanted.get("on") else None
            return None
        return {"events": events}
