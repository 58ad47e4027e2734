"""The embedded SQS over HTTP: the AWS JSON protocol, long polls that wake at once, and an admin interface for tests.

Admin (JSON over the same port): GET ``/_admin/counters``, ``/_admin/state``, ``/_admin/eventlog``, ``/_admin/ping``;
POST ``/_admin/reset``, ``/_admin/wipe``, ``/_admin/config`` (latency_ms, jitter_ms, faults, duplicates, shuffle,
in_flight_most, policies, expired_keys), ``/_admin/clock`` (advance, rate), ``/_admin/inject``, ``/_admin/peek``,
``/_admin/eventlog``.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from pyqs_celery.local.access import Access
from pyqs_celery.local.actions import Actions
from pyqs_celery.local.admin import Admin
from pyqs_celery.local.clock import MovableClock
from pyqs_celery.local.errors import ApiError, invalid
from pyqs_celery.local.faults import KINDS, UNANSWERED, Fault
from pyqs_celery.local.http import HttpConnection, HttpRequest
from pyqs_celery.local.polls import LongPolls, Reply
from pyqs_celery.local.store import Journal, Request, Store, dumps, wait_seconds

CORAL = {
    "InvalidParameterValue": "InvalidParameterValueException",
    "MissingParameter": "MissingRequiredParameterException",
}


class Server:
    """One embedded SQS on one port. ``clock`` gives epoch seconds to the store.

    ``connection``, ``read_json`` and ``write_json`` are what a faster front puts other parts in place of
    (``benchmarks/endpoint.py``).
    """

    connection: type[HttpConnection] = HttpConnection
    read_json: Callable[[bytes], Any] = staticmethod(json.loads)
    write_json: Callable[[Any], bytes] = staticmethod(dumps)

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        clock: Callable[[], float] = time.time,
        journal: Journal | None = None,
    ) -> None:
        self.loop = loop
        self.store = Store(clock, journal=journal)
        self.store.on_visible = lambda queue: (self.loop.call_soon(self.polls.wake, queue), None)[1]
        self.polls = LongPolls(loop, self.store)
        self.actions = Actions(self.store)
        self.admin = Admin(self)
        self.latency = 0.0
        self.jitter = 0.0
        self.faults: list[Fault] = []
        self.access: Access | None = None
        self.action_counts: Counter[str] = Counter()
        self.queue_counts: Counter[str] = Counter()
        self.started = time.time()
        self._true_clock = clock
        self._server: asyncio.AbstractServer | None = None

    async def listen(self, host: str, port: int) -> int:
        """Open the port (0: any free one) and give its number."""
        self._server = await self.loop.create_server(lambda: self.connection(self.handle), host, port, backlog=1024)
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

    def move_clock(self, advance: float = 0.0, rate: float | None = None) -> None:
        """Put the store's clock forward, or change its pace; leases, delays and long polls follow. Raises ValueError."""
        clock = self.store.clock
        if not isinstance(clock, MovableClock):
            clock = MovableClock(self._true_clock)
        clock.move(advance, rate)
        self.store.clock = clock
        self.polls.follow(clock.rate)

    def restore_clock(self) -> None:
        """Show the true time again."""
        if self.store.clock is not self._true_clock:
            self.store.clock = self._true_clock
            self.polls.follow(1.0)

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
            arguments = self.read_json(request.body) if request.body else {}
        except ValueError as exc:
            self._refuse(connection, ApiError("SerializationException", f"The request is not JSON: {exc}"))
            return
        queue = _queue_of(arguments)
        self.queue_counts[f"{action} {queue}"] += 1
        refusal = self.access and self.access.refusal(request.headers.get("authorization", ""), action, queue)
        fault = None if refusal else self._fault(action, queue)
        if refusal:
            self.store.stats[f"refused {refusal.code} {action} {queue}"] += 1
            self._refuse(connection, refusal)
        elif fault is None:
            self._after(self._half_latency(), partial(self._run, connection, action, arguments, self._answer))
        else:
            self._go_wrong(fault, connection, action, arguments)

    def _go_wrong(self, fault: Fault, connection: HttpConnection, action: str, arguments: Request) -> None:
        if fault.kind in KINDS:
            status, code = KINDS[fault.kind]
            self._refuse(connection, ApiError(code, "injected by the embedded SQS", status))
        elif fault.kind in UNANSWERED:
            if fault.kind == "reset":
                connection.abort()
        else:
            reply: Reply = self._answer
            if fault.kind == "reset_after":
                reply = _lose
            elif fault.kind == "slow_body":
                reply = partial(_answer_slowly, fault.body_seconds)
            partly = fault if fault.is_partial else None
            self._after(self._half_latency(), partial(self._run, connection, action, arguments, reply, partly))

    def _fault(self, action: str, queue: str) -> Fault | None:
        if not self.faults:
            return None
        now = time.time()
        for fault in self.faults:
            if fault.strikes(action, queue, now):
                self.store.stats[f"fault_{fault.kind}"] += 1
                self.store.log_line("fault", queue, None, f"{fault.kind} {action}")
                return fault
        return None

    def _half_latency(self) -> float:
        return (self.latency + random.random() * self.jitter) / 2 if self.latency or self.jitter else 0.0

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        if seconds:
            self.loop.call_later(seconds, call)
        else:
            call()

    def _run(
        self, connection: HttpConnection, action: str, request: Request, reply: Reply, partly: Fault | None = None
    ) -> None:
        if connection.closed:
            return
        try:
            if action == "ReceiveMessage":
                self._receive(connection, request, reply)
            elif partly is not None:
                reply(connection, partly.fail_entries(request, partial(self.actions.run, action)))
            else:
                reply(connection, self.actions.run(action, request))
        except ApiError as exc:
            self.store.stats[f"error_{exc.code}"] += 1
            self._refuse(connection, exc)

    def _answer(self, connection: HttpConnection, answer: dict[str, Any]) -> None:
        self._after(self._half_latency(), partial(connection.write, 200, self.write_json(answer)))

    def _refuse(self, connection: HttpConnection, error: ApiError) -> None:
        prefix = "com.amazon.coral.service#" if error.code in CORAL else "com.amazonaws.sqs#"
        body = dumps({"__type": prefix + CORAL.get(error.code, error.code), "message": error.message})
        headers = {"x-amzn-query-error": f"{error.query_code};Sender"} if error.status < 500 else {}
        self._after(self._half_latency(), partial(connection.write, error.status, body, headers))

    def _receive(self, connection: HttpConnection, request: Request, reply: Reply) -> None:
        queue = self.store.find(request)
        wait = wait_seconds(queue, request)
        if not 0 <= wait <= 20:
            raise invalid(f"Value {wait} for parameter WaitTimeSeconds is invalid. Reason: must be 0 to 20.")
        messages = self.store.receive(queue, request)
        if messages:
            reply(connection, {"Messages": messages})
        elif wait:
            self.polls.open(connection, request, wait, reply)
        else:
            self.store.stats["empty_receives"] += 1
            reply(connection, {})


def _queue_of(arguments: Request) -> str:
    named = arguments.get("QueueUrl") or arguments.get("QueueName")
    if named:
        return str(named).rsplit("/", 1)[-1]
    return str(arguments.get("SourceArn") or "").rsplit(":", 1)[-1]


def _lose(connection: HttpConnection, _: dict[str, Any]) -> None:
    connection.abort()


def _answer_slowly(seconds: float, connection: HttpConnection, answer: dict[str, Any]) -> None:
    connection.write_slowly(200, dumps(answer), seconds)
