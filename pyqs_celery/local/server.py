"""The embedded SQS over HTTP: the AWS JSON protocol, long polls that wake at once, and an admin interface for tests.

Admin (JSON over the same port): GET ``/_admin/counters``, ``/_admin/state``, ``/_admin/eventlog``, ``/_admin/ping``;
POST ``/_admin/reset``, ``/_admin/wipe``, ``/_admin/config`` (latency_ms, jitter_ms, faults), ``/_admin/inject``,
``/_admin/peek``, ``/_admin/eventlog``.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from typing import Any

from pyqs_celery.local.actions import Actions
from pyqs_celery.local.admin import Admin
from pyqs_celery.local.errors import ApiError, invalid
from pyqs_celery.local.faults import KINDS, Fault
from pyqs_celery.local.http import HttpConnection, HttpRequest
from pyqs_celery.local.store import Journal, Request, Store, dumps

CORAL = {
    "InvalidParameterValue": "InvalidParameterValueException",
    "MissingParameter": "MissingRequiredParameterException",
}


class Waiter:
    """A client in a long poll: its connection, its request, and the timer that ends it."""

    def __init__(self, connection: HttpConnection, request: Request) -> None:
        self.connection = connection
        self.request = request
        self.done = False
        self.timer: asyncio.TimerHandle | None = None


class Server:
    """One embedded SQS on one port. ``clock`` gives epoch seconds to the store."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        clock: Callable[[], float] = time.time,
        journal: Journal | None = None,
    ) -> None:
        self.loop = loop
        self.store = Store(clock, journal=journal)
        self.store.on_visible = lambda queue: (self.loop.call_soon(self.wake, queue), None)[1]
        self.actions = Actions(self.store)
        self.admin = Admin(self)
        self.latency = 0.0
        self.jitter = 0.0
        self.faults: list[Fault] = []
        self.action_counts: Counter[str] = Counter()
        self.queue_counts: Counter[str] = Counter()
        self.started = time.time()
        self._waiters: dict[str, deque[Waiter]] = {}
        self._alarms: dict[str, asyncio.TimerHandle] = {}
        self._server: asyncio.AbstractServer | None = None

    async def listen(self, host: str, port: int) -> int:
        """Open the port (0: any free one) and give its number."""
        self._server = await self.loop.create_server(lambda: HttpConnection(self.handle), host, port, backlog=1024)
        bound = int(self._server.sockets[0].getsockname()[1])
        self.store.endpoint = f"http://{host}:{bound}"
        return bound

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    def reset_counts(self) -> None:
        """Zero all counters."""
        self.action_counts.clear()
        self.queue_counts.clear()
        self.store.stats.clear()
        self.started = time.time()

    # -- one request -------------------------------------------------------------------------------

    def handle(self, connection: HttpConnection, request: HttpRequest) -> None:
        """Answer one HTTP request, now or when a long poll ends."""
        if request.path.startswith("/_admin"):
            status, body = self.admin.answer(request)
            connection.write(status, body)
            return
        target = request.headers.get("x-amz-target")
        if target is None:
            error = ApiError("InvalidAction", "The embedded SQS speaks the AWS JSON protocol (boto3 1.34.90 or newer).")
            self._refuse(connection, error)
            return
        action = target.rsplit(".", 1)[-1]
        self.action_counts[action] += 1
        try:
            arguments = json.loads(request.body) if request.body else {}
        except ValueError as exc:
            self._refuse(connection, ApiError("SerializationException", f"The request is not JSON: {exc}"))
            return
        queue = str(arguments.get("QueueUrl") or arguments.get("QueueName") or "").rsplit("/", 1)[-1]
        self.queue_counts[f"{action} {queue}"] += 1
        kind = self._fault(action, queue)
        if kind is None or kind == "reset_after":
            self._after(self._half_latency(), partial(self._run, connection, action, arguments, kind is not None))
        elif kind == "reset":
            connection.abort()
        elif kind in KINDS:
            status, code = KINDS[kind]
            self._refuse(connection, ApiError(code, "injected by the embedded SQS", status))
        # "timeout": the client's own time limit decides

    def _fault(self, action: str, queue: str) -> str | None:
        now = time.time()
        for fault in self.faults:
            if fault.strikes(action, queue, now):
                self.store.stats[f"fault_{fault.kind}"] += 1
                return fault.kind
        return None

    def _half_latency(self) -> float:
        return (self.latency + random.random() * self.jitter) / 2 if self.latency or self.jitter else 0.0

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        if seconds:
            self.loop.call_later(seconds, call)
        else:
            call()

    def _run(self, connection: HttpConnection, action: str, request: Request, lose_answer: bool) -> None:
        if connection.closed:
            return
        try:
            if action == "ReceiveMessage":
                answer = self._receive(connection, request)
                if answer is None:
                    return
            else:
                answer = self.actions.run(action, request)
        except ApiError as exc:
            self.store.stats[f"error_{exc.code}"] += 1
            self._refuse(connection, exc)
            return
        if lose_answer:
            connection.abort()
        else:
            self._answer(connection, answer)

    def _answer(self, connection: HttpConnection, answer: dict[str, Any]) -> None:
        self._after(self._half_latency(), partial(connection.write, 200, dumps(answer)))

    def _refuse(self, connection: HttpConnection, error: ApiError) -> None:
        prefix = "com.amazon.coral.service#" if error.code in CORAL else "com.amazonaws.sqs#"
        body = dumps({"__type": prefix + CORAL.get(error.code, error.code), "message": error.message})
        headers = {"x-amzn-query-error": f"{error.query_code};Sender"} if error.status < 500 else {}
        self._after(self._half_latency(), partial(connection.write, error.status, body, headers))

    # -- long polls --------------------------------------------------------------------------------

    def _receive(self, connection: HttpConnection, request: Request) -> dict[str, Any] | None:
        queue = self.store.find(request)
        wait = request.get("WaitTimeSeconds")
        wait = queue.number("ReceiveMessageWaitTimeSeconds") if wait is None else wait
        if not 0 <= wait <= 20:
            raise invalid(f"Value {wait} for parameter WaitTimeSeconds is invalid. Reason: must be 0 to 20.")
        messages = self.store.receive(queue, request)
        if messages:
            return {"Messages": messages}
        if not wait:
            self.store.stats["empty_receives"] += 1
            return {}
        waiter = Waiter(connection, request)
        waiter.timer = self.loop.call_later(wait, self._expire, queue.name, waiter)
        connection.on_lost = partial(self._leave, queue.name, waiter)
        self._waiters.setdefault(queue.name, deque()).append(waiter)
        self._set_alarm(queue.name)
        return None

    def waiting(self, queue: str) -> int:
        """How many long polls are open on a queue."""
        return len(self._waiters.get(queue, ()))

    def wake(self, name: str) -> None:
        """Give waiting clients what their queue has now."""
        waiters = self._waiters.get(name)
        queue = self.store.queues.get(name)
        while waiters and queue is not None:
            messages = self.store.receive(queue, waiters[0].request)
            if not messages:
                break
            waiter = waiters.popleft()
            self._end(waiter)
            self._answer(waiter.connection, {"Messages": messages})
        self._set_alarm(name)

    def _set_alarm(self, name: str) -> None:
        """Look again when the next hidden message of a waited-for queue becomes visible."""
        alarm = self._alarms.pop(name, None)
        if alarm is not None:
            alarm.cancel()
        queue = self.store.queues.get(name)
        at = queue.next_visible() if queue is not None else None
        if at is not None and self._waiters.get(name):
            self._alarms[name] = self.loop.call_later(max(0.0, at - self.store.clock()) + 0.001, self.wake, name)

    def _end(self, waiter: Waiter) -> None:
        waiter.done = True
        waiter.connection.on_lost = None
        if waiter.timer is not None:
            waiter.timer.cancel()

    def _expire(self, name: str, waiter: Waiter) -> None:
        self._leave(name, waiter)
        self.store.stats["empty_receives"] += 1
        self._answer(waiter.connection, {})

    def _leave(self, name: str, waiter: Waiter) -> None:
        self._end(waiter)
        waiters = self._waiters.get(name)
        if waiters and waiter in waiters:
            waiters.remove(waiter)
