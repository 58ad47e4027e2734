"""Long polls of the embedded SQS: clients that wait, woken at once when their queue has something."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from pyqs_celery.local.http import HttpConnection
from pyqs_celery.local.store import Request, Store

Reply = Callable[[HttpConnection, dict[str, Any]], None]
"""Answers the request that a connection waits with."""


class Waiter:
    """A client in a long poll: its connection and request, and the instant of the store's clock at which it ends."""

    def __init__(self, connection: HttpConnection, request: Request, until: float, reply: Reply) -> None:
        self.connection = connection
        self.request = request
        self.until = until
        self.reply = reply
        self.timer: asyncio.TimerHandle | None = None


class LongPolls:
    """All open polls. ``rate`` is how many of the store's seconds pass in a real one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, store: Store) -> None:
        self.rate = 1.0
        self._loop = loop
        self._store = store
        self._waiters: dict[str, deque[Waiter]] = {}
        self._alarms: dict[str, asyncio.TimerHandle] = {}

    def open(self, connection: HttpConnection, request: Request, wait_seconds: float, reply: Reply) -> None:
        """Let a client wait for its queue."""
        name = self._store.find(request).name
        waiter = Waiter(connection, request, self._store.clock() + wait_seconds, reply)
        connection.on_lost = partial(self._leave, name, waiter)
        self._waiters.setdefault(name, deque()).append(waiter)
        self._set_timer(name, waiter)
        self._set_alarm(name)

    def waiting(self, name: str) -> int:
        """How many long polls are open on a queue."""
        return len(self._waiters.get(name, ()))

    def wake(self, name: str) -> None:
        """Give waiting clients what their queue has now."""
        waiters = self._waiters.get(name)
        queue = self._store.queues.get(name)
        while waiters and queue is not None:
            messages = self._store.receive(queue, waiters[0].request)
            if not messages:
                break
            waiter = waiters.popleft()
            self._end(waiter)
            waiter.reply(waiter.connection, {"Messages": messages})
        self._set_alarm(name)

    def follow(self, rate: float) -> None:
        """The store's clock was moved: set all timers anew."""
        self.rate = rate
        for name, waiters in list(self._waiters.items()):
            for waiter in list(waiters):
                self._set_timer(name, waiter)
            self.wake(name)

    def _seconds_to(self, instant: float) -> float:
        return max(0.0, instant - self._store.clock()) / self.rate

    def _set_timer(self, name: str, waiter: Waiter) -> None:
        if waiter.timer is not None:
            waiter.timer.cancel()
        waiter.timer = self._loop.call_later(self._seconds_to(waiter.until), self._expire, name, waiter)

    def _set_alarm(self, name: str) -> None:
        """Look again when the next hidden message of a waited-for queue becomes visible."""
        alarm = self._alarms.pop(name, None)
        if alarm is not None:
            alarm.cancel()
        queue = self._store.queues.get(name)
        at = queue.next_visible() if queue is not None else None
        if at is not None and self._waiters.get(name):
            self._alarms[name] = self._loop.call_later(self._seconds_to(at) + 0.001, self.wake, name)

    def _end(self, waiter: Waiter) -> None:
        waiter.connection.on_lost = None
        if waiter.timer is not None:
            waiter.timer.cancel()

    def _expire(self, name: str, waiter: Waiter) -> None:
        self._leave(name, waiter)
        self._store.stats["empty_receives"] += 1
        waiter.reply(waiter.connection, {})

    def _leave(self, name: str, waiter: Waiter) -> None:
        self._end(waiter)
        waiters = self._waiters.get(name)
        if waiters and waiter in waiters:
            waiters.remove(waiter)
