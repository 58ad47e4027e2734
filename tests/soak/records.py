"""What happens to tasks in a soak, as short lines: one write for each, one file for each process.

Read and written by workers, by our producer and by a real Celery one, so nothing but the standard library is needed here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SENDING, SENT, BEGAN, ENDED, EXPIRED = "S", "C", "B", "E", "X"


@dataclass(frozen=True)
class Sending:
    """A task is about to be sent. ``due`` is the earliest instant at which it may run, ``expires`` the last; 0: any.

    ``parent`` are the tasks, between spaces, one of which sends it when it runs. On FIFO queues ``number`` counts the
    messages of a group from 1 on.
    """

    at: float
    task: str
    kind: str
    queue: str
    due: float = 0.0
    expires: float = 0.0
    group: str = ""
    number: int = 0
    parent: str = ""


@dataclass(frozen=True)
class Began:
    """A run began. ``retries`` are Celery's, ``message`` and ``count`` are SQS's id and receive count."""

    at: float
    task: str
    kind: str
    retries: int
    message: str
    count: int
    pid: int
    worker: str
    queue: str
    sent_at: float
    parent: str


@dataclass(frozen=True)
class Ended:
    """A run ended of itself: ok, retry (by a new message), again (by the same one), fail, reject, or wrong (values)."""

    at: float
    task: str
    message: str
    count: int
    pid: int
    outcome: str


class Diary:
    """Writes lines into a file of the present process."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._pid = 0
        self._file = -1

    def write(self, *words: object) -> None:
        """One line, by one write, so that a kill leaves it whole or not at all."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            path = self._folder / f"{self._name}-{self._pid}.lines"
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(self._file, ("\t".join(str(word) for word in words) + "\n").encode())

    def sending(
        self,
        task: str,
        kind: str,
        queue: str,
        *,
        due: float = 0.0,
        expires: float = 0.0,
        group: str = "",
        number: int = 0,
        parent: str = "",
    ) -> None:
        self.write(SENDING, now(), task, kind, queue, due, expires, group, number, parent)

    def sent(self, *tasks: str) -> None:
        """SQS has them for certain. What was only ``sending`` is in doubt."""
        for start in range(0, len(tasks), 50):
            self.write(SENT, now(), *tasks[start : start + 50])


def now() -> str:
    return f"{time.time():.4f}"


def lines(folder: Path) -> Iterator[list[str]]:
    """Every line of every process, each as its words."""
    for path in sorted(folder.glob("*.lines")):
        with path.open() as file:
            for line in file:
                yield line.rstrip("\n").split("\t")


def sending_of(words: list[str]) -> Sending:
    _, at, task, kind, queue, due, expires, group, number, parent = words
    return Sending(float(at), task, kind, queue, float(due), float(expires), group, int(number), parent)


def began_of(words: list[str]) -> Began:
    _, at, task, kind, retries, message, count, pid, worker, queue, sent_at, parent = words
    return Began(
        *(float(at), task, kind, int(retries), message, int(count), int(pid), worker, queue, float(sent_at), parent)
    )


def ended_of(words: list[str]) -> Ended:
    _, at, task, message, count, pid, outcome = words
    return Ended(float(at), task, message, int(count), int(pid), outcome)
