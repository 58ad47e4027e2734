"""Between the worker's loop and its threads: jobs go out, news comes in, and the loop never waits for either."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, TypeVar

Answer = TypeVar("Answer")
DESCRIPTORS_MOST = 10_240
"""What every platform grants a process that may have more (macOS: OPEN_MAX)."""
HANGS_SECONDS = 60.0
"""How long a call may take before it counts as hanging. botocore's time limits hold for each read, so an answer that comes
drop by drop can take longer than any of them."""
THREADS_MOST = 64
News = Callable[[float], None]
"""Something to be done by the loop, which calls it with the present instant (epoch seconds)."""


def allow_descriptors() -> None:
    """Let this process have as many descriptors as it may: each queue has a connection of its own."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS_MOST if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_MOST)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class Inbox:
    """What threads have to tell the loop, in order. ``fileno`` becomes readable when there is something."""

    def __init__(self) -> None:
        self._news: deque[News] = deque()
        self._is_woken = False
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        os.set_blocking(self._write_end, False)

    def put(self, news: News) -> None:
        """Leave news; from any thread."""
        self._news.append(news)
        if self._is_woken:
            return  # the loop has been woken, and takes these news too
        self._is_woken = True
        try:
            os.write(self._write_end, b"\0")
        except BlockingIOError:
            return  # the pipe is full of wake-ups nobody has read: the loop will wake
        except OSError:
            return  # closed: the loop has ended, and nobody is left to be told

    def take(self) -> list[News]:
        """Everything that is there; to be called when there is something to read."""
        with suppress(BlockingIOError):
            os.read(self._read_end, 4096)
        self._is_woken = False  # from here on news wake the loop again; what came before is taken now
        taken = []
        while self._news:
            taken.append(self._news.popleft())
        return taken

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._read_end

    def close(self) -> None:
        """Close both ends."""
        os.close(self._read_end)
        self._write_end, closed = -1, self._write_end
        os.close(closed)


@dataclass(eq=False, slots=True)
class Job:
    """One call. ``began`` is when a thread took it (monotonic), ``hung`` gives what stands for an answer that does not come."""

    key: Hashable
    call: Callable[[], Any]
    then: Callable[[Any, float], None]
    hung: Callable[[], Any] | None
    began: float = 0.0
    over: bool = False


class IoThreads:
    """Threads that make calls, up to ``each`` at once for one key, so that a queue without answers keeps no other waiting.

    Calls of one key are begun in the order they come. Threads are made when they are needed and ended when idle, but for
    ``each`` of them. ``post`` hands news to the loop's thread.
    """

    def __init__(self, name: str, each: int, post: Callable[[News], None]) -> None:
        self._name = name
        self._each = each
        self._post = post
        self._lock = threading.Lock()
        self._handed: SimpleQueue[Job | None] = SimpleQueue()
        self._waiting: dict[Hashable, deque[Job]] = {}
        self._short: dict[Hashable, None] = {}
        self._open: dict[Hashable, set[Job]] = {}
        self._threads = 0
        self._idle = 0
        self._closed = False

    def ask(
        self,
        call: Callable[[], Answer],
        then: Callable[[Answer, float], None],
        *,
        key: Hashable = None,
        hung: Callable[[], Answer] | None = None,
    ) -> None:
        """Make a call in a thread, and hand what it returns to ``then(answer, now)`` in the loop's. It must not raise.

        What ``hung`` returns is handed over instead if there is no answer within ``HANGS_SECONDS``; None waits for ever.
        """
        with self._lock:
            self._waiting.setdefault(key, deque()).append(Job(key, call, then, hung))
            self._begin(key)

    def look(self, now: float) -> int:
        """Give up calls that hang (``now`` is monotonic); how many. Their threads are lost until the calls return."""
        with self._lock:
            late = [
                job
                for jobs in self._open.values()
                for job in jobs
                if job.hung is not None and now - job.began > HANGS_SECONDS
            ]
            for job in late:
                self._end(job, job.hung() if job.hung is not None else None)
        return len(late)

    def _begin(self, key: Hashable) -> None:
        """Hand over what may begin of a key."""
        waiting = self._waiting.get(key)
        while waiting:
            running = len(self._open.get(key, ()))
            most = THREADS_MOST if not running else THREADS_MOST // 2
            if running >= self._each:
                return
            if not self._idle and self._threads >= most:
                self._short[key] = None
                return
            job = waiting.popleft()
            job.began = time.monotonic()
            self._open.setdefault(key, set()).add(job)
            if self._idle:
                self._idle -= 1
            else:
                self._threads += 1
                threading.Thread(target=self._run, name=f"{self._name}-{self._threads}", daemon=True).start()
            self._handed.put(job)
        self._waiting.pop(key, None)

    def _end(self, job: Job, answer: Any) -> None:
        """A call has its answer: tell the loop, and begin what waited for that."""
        job.over = True
        jobs = self._open[job.key]
        jobs.discard(job)
        if not jobs:
            del self._open[job.key]
        self._post(lambda now: job.then(answer, now))
        self._begin(job.key)
        while self._idle and self._short:
            key = next(iter(self._short))
            del self._short[key]
            self._begin(key)

    def _run(self) -> None:
        while True:
            job = self._handed.get()
            if job is None:
                return
            answer = job.call()
            with self._lock:
                self._idle += 1
                if not job.over:
                    self._end(job, answer)
                if self._closed or self._idle > self._each:
                    self._idle -= 1
                    self._threads -= 1
                    return

    def close(self) -> None:
        """Let the threads end when the calls that were begun are done."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            self._short.clear()
            for _ in range(self._idle):
                self._handed.put(None)
