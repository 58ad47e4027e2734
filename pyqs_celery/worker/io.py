"""Between the worker's loop and its threads: jobs go out, news comes in, and the loop never waits for either."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

Answer = TypeVar("Answer")
News = Callable[[float], None]
"""Something to be done by the loop, which calls it with the present instant (epoch seconds)."""


class Inbox:
    """What threads have to tell the loop, in order. ``fileno`` becomes readable when there is something."""

    def __init__(self) -> None:
        self._news: deque[News] = deque()
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        os.set_blocking(self._write_end, False)

    def put(self, news: News) -> None:
        """Leave news; from any thread."""
        self._news.append(news)
        try:
            os.write(self._write_end, b"\0")
        except BlockingIOError:
            return  # the pipe is full of wake-ups nobody has read: the loop will wake
        except OSError:
            return  # closed: the loop has ended, and nobody is left to be told

    def take(self) -> list[News]:
        """Everything that is there."""
        try:
            while len(os.read(self._read_end, 4096)) == 4096:
                pass
        except BlockingIOError:
            pass
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


class IoThreads:
    """A few threads that make calls in the order they come. ``post`` hands news to the loop's thread."""

    def __init__(self, name: str, count: int, post: Callable[[News], None]) -> None:
        self._post = post
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def ask(self, call: Callable[[], Answer], then: Callable[[Answer, float], None]) -> None:
        """Make a call in a thread, and hand what it returns to ``then(answer, now)`` in the loop's. It must not raise."""

        def job() -> None:
            answer = call()
            self._post(lambda now: then(answer, now))

        self._jobs.put(job)

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            job()

    def close(self) -> None:
        """Let the threads end when the jobs before are done."""
        for _ in self._threads:
            self._jobs.put(None)
