"""The demo's processes: an embedded SQS and a worker, started, followed and ended by their ids."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.request import Request, urlopen

import pyqs_celery
from pyqs_celery.exceptions import CeleryError

START_SECONDS = 15.0
STOP_SECONDS = 15.0


class DemoError(CeleryError):
    """The demo did not go as promised."""


def _package_path() -> str:
    """A search path that finds this very package from any folder, installed or not."""
    here = str(Path(pyqs_celery.__file__).resolve().parents[1])
    return os.pathsep.join(part for part in (here, os.environ.get("PYTHONPATH")) if part)


class Process:
    """One child process whose output lines can be waited for."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str], folder: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-u", "-m", *arguments],
            env={**os.environ, **environment, "PYTHONPATH": _package_path()},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        output = self._process.stdout
        if output is None:
            raise DemoError("a child process has no output to read")
        self._reader = threading.Thread(target=self._read, args=(output,), daemon=True)
        self._reader.start()

    def _read(self, output: IO[str]) -> None:
        for line in output:
            self.lines.append(line.rstrip("\n"))
            self._waiting.put(line.rstrip("\n"))
        self._waiting.put(None)

    def next_line(self, timeout: float) -> str | None:
        """The next line of output, or None if there was none in time. Raises DemoError if the process has ended."""
        try:
            line = self._waiting.get(timeout=max(timeout, 0))
        except queue.Empty:
            return None
        if line is None:
            code = self._process.wait()
            raise DemoError(f"a process of the demo ended early with code {code}; its last words:\n{self.last_words()}")
        return line

    def stop(self) -> int:
        """Ask the process to end (SIGTERM), wait, and give its exit code; kill it if it does not."""
        self._process.terminate()
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise DemoError(f"a process of the demo did not stop within {STOP_SECONDS:g}s and was killed") from None

    def kill(self) -> None:
        """End the process at once if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._reader.join(STOP_SECONDS)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def last_words(self) -> str:
        """The last lines of output."""
        return "\n".join(self.lines[-15:])


@contextmanager
def stage() -> Iterator[tuple[str, dict[str, str], str]]:
    """An embedded SQS in its own process: its endpoint, the environment that leads there, and an empty folder."""
    with tempfile.TemporaryDirectory(prefix="pyqs-celery-demo-") as folder:
        server = Process(["pyqs_celery.local", "--port", "0"], {}, folder)
        try:
            endpoint = _endpoint(server)
            environment = {
                "AWS_ENDPOINT_URL_SQS": endpoint,
                "AWS_ACCESS_KEY_ID": "demo",
                "AWS_SECRET_ACCESS_KEY": "demo",
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_EC2_METADATA_DISABLED": "true",
                "NO_PROXY": "127.0.0.1",
            }
            yield endpoint, environment, folder
            server.stop()
        finally:
            server.kill()


def _endpoint(server: Process) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        line = server.next_line(deadline - time.monotonic())
        if line and "http://" in line:
            return "http://" + line.split("http://", 1)[1].split()[0]
    raise DemoError(f"the embedded SQS said no address within {START_SECONDS:g}s")


@contextmanager
def running_worker(arguments: list[str], environment: Mapping[str, str], folder: str) -> Iterator[Process]:
    """A worker in its own process, killed at the end if it still runs."""
    worker = Process(["pyqs_celery", *arguments], environment, folder)
    try:
        yield worker
    finally:
        worker.kill()


def ask(endpoint: str, page: str) -> dict[str, Any]:
    """One of the embedded SQS's admin pages."""
    with urlopen(Request(f"{endpoint}/_admin/{page}"), timeout=5) as answer:  # noqa: S310 - our own server
        found: dict[str, Any] = json.load(answer)
    return found
