"""Threads that make the worker's SQS calls, so that its loop never waits for one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue


class IoThreads:
    """A few threads that run jobs in the order they come. Jobs report by themselves and must not raise."""

    def __init__(self, name: str, count: int) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, job: Callable[[], None]) -> None:
        """Run a job soon."""
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
