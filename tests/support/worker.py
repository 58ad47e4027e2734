"""A worker as people start one, and what its tasks have left in their diary."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.embedded import ROOT, EmbeddedSqs
from tests.support.proc import processes_of_session
from tests.support.waiting import until

APP = Path(__file__).parents[1] / "processes" / "app"


class Diary:
    """What tasks wrote down: a line of JSON for each event."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def entries(self) -> Iterator[dict[str, Any]]:
        for line in self.path.read_text().splitlines():
            yield json.loads(line)

    def count(self, event: str) -> Counter[Any]:
        """How often each key had this event."""
        return Counter(entry["key"] for entry in self.entries() if entry["event"] == event)

    def wait(self, event: str, number: int, seconds: float = 30.0) -> Counter[Any]:
        until(lambda: sum(self.count(event).values()) >= number, f"{number} x {event}", seconds)
        return self.count(event)


class Worker:
    """One ``pyqs-celery`` process and its family, in a session of their own."""

    def __init__(
        self, sqs: EmbeddedSqs, folder: Path, *arguments: str, app: str | None = "proj", **variables: str
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.diary = Diary(folder / "diary")
        self.log_path = folder / f"log-{len(list(folder.glob('log-*')))}"
        target = ["-A", app] if app else []
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-u", "-m", "pyqs_celery", *target, "worker", "-l", "INFO", *arguments],
                env={
                    **os.environ,
                    **sqs.environment,
                    "PYTHONPATH": f"{ROOT}{os.pathsep}{APP}",
                    "DIARY": str(self.diary.path),
                    "C_FORCE_ROOT": "1",
                    "PYQS_CELERY_CONTROL_DIR": str(folder / "control"),
                    **variables,
                },
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.session = self.process.pid

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def wait_logged(self, text: str, seconds: float = 30.0) -> None:
        try:
            until(lambda: text in self.log or self.process.poll() is not None, f"log says {text!r}", seconds)
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self.log}") from exc
        assert text in self.log, self.log

    def wait_ready(self) -> None:
        self.wait_logged(" ready.")

    def family(self) -> list[int]:
        """The consumer's id, then the children's."""
        manager = self.process.pid
        return [pid for pid in processes_of_session(self.session) if pid != manager]

    def wait_family(self, size: int) -> list[int]:
        return until(lambda: found if len(found := self.family()) == size else [], f"the manager has {size} processes")

    def send_signal(self, signum: int) -> None:
        self.process.send_signal(signum)

    def wait(self, seconds: float = 60.0) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker did not end within {seconds:g}s:\n{self.log}") from None

    def stop(self, signum: int = signal.SIGTERM, seconds: float = 60.0) -> int:
        """Signal the manager, wait, and see that nobody is left."""
        self.send_signal(signum)
        code = self.wait(seconds)
        self.check_nobody_left()
        return code

    def check_nobody_left(self, seconds: float = 10.0) -> None:
        until(lambda: not processes_of_session(self.session), "no process of the worker is left", seconds)

    def kill_all(self) -> None:
        """End whatever is left, by its id."""
        for pid in processes_of_session(self.session):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait(10)
