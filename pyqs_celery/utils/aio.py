"""Running ``async def`` tasks: one event loop for each thread of a process, kept from task to task.

So that clients with connection pools (which belong to a loop) may be kept in a module, as in a web server.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Generator
from typing import Any

_here = threading.local()


class _Interruptible:
    """An awaitable through which an exception can be thrown into the coroutine that it runs."""

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self._inner = awaitable.__await__()
        self.interruption: BaseException | None = None

    def __await__(self) -> Generator[Any, Any, Any]:
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                waits_for = self._inner.send(value) if error is None else self._inner.throw(error)
            except StopIteration as stop:
                return stop.value
            try:
                value, error = (yield waits_for), None
            except BaseException as exc:  # noqa: BLE001 - whatever is thrown at us belongs to the coroutine
                error, self.interruption = self.interruption or exc, None


async def _main(awaitable: _Interruptible) -> Any:
    return await awaitable


def run(awaitable: Awaitable[Any]) -> Any:
    """The value of an awaitable, run on this thread's loop. Raises what it raises.

    Called from inside a running loop (an eager task in an async view), it runs in a thread of its own.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run_here(awaitable)
    return _run_in_a_thread(awaitable)


def _run_here(awaitable: Awaitable[Any]) -> Any:
    loop = thread_loop()
    run_by = _Interruptible(awaitable)
    task = loop.create_task(_main(run_by))
    _here.running = (loop, task, run_by)
    try:
        return loop.run_until_complete(task)
    finally:
        _here.running = None
        if not task.done():  # the loop was left by an exception out of a signal handler
            task.cancel()
            loop.run_until_complete(asyncio.gather(task, return_exceptions=True))


def _run_in_a_thread(awaitable: Awaitable[Any]) -> Any:
    from concurrent.futures import ThreadPoolExecutor
    from contextvars import copy_context

    def live() -> Any:
        try:
            return _run_here(awaitable)
        finally:
            close()

    with ThreadPoolExecutor(1, "async-task") as pool:
        return pool.submit(copy_context().run, live).result()


def thread_loop() -> asyncio.AbstractEventLoop:
    """The loop of this thread; a new one after a fork, since a loop's selector cannot be shared."""
    loop: asyncio.AbstractEventLoop | None = getattr(_here, "loop", None)
    if loop is None or loop.is_closed() or _here.pid != os.getpid():
        loop = _here.loop = asyncio.new_event_loop()
        _here.pid = os.getpid()
    return loop


def close() -> None:
    """Close this thread's loop, its asynchronous generators first."""
    loop: asyncio.AbstractEventLoop | None = getattr(_here, "loop", None)
    if loop is None or loop.is_closed() or _here.pid != os.getpid():
        return
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    _here.loop = None


def interrupt(exc: BaseException) -> bool:
    """From a signal handler: have ``exc`` raised where the waiting coroutine waits. False if none waits in this thread."""
    running = getattr(_here, "running", None)
    if running is None:
        return False
    loop, task, run_by = running
    if task.done() or asyncio.current_task(loop) is not None:
        return False  # code is running: the exception may be raised right there
    run_by.interruption = exc
    loop.call_soon_threadsafe(task.cancel)
    return True
