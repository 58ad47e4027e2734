"""The task bodies, the same for every peer: plain functions, imported by the adapters in ``benchmarks.peers``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

COUNT_FILE = "BENCHMARK_COUNT_FILE"
STAMP_FILE = "BENCHMARK_STAMP_FILE"
_descriptors: dict[tuple[str, int], int] = {}


def _append(variable: str, data: bytes) -> None:
    key = (variable, os.getpid())
    if key not in _descriptors:
        _descriptors[key] = os.open(os.environ[variable], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(_descriptors[key], data)


def noop() -> None:
    """One byte for each run: the file's size is the exact number of runs."""
    _append(COUNT_FILE, b".")


def sleep(seconds: float) -> None:
    """A task that waits for somebody else."""
    time.sleep(seconds)
    _append(COUNT_FILE, b".")


def stamp(sent: float) -> None:
    """Note how many seconds after ``sent`` (epoch) it runs."""
    _append(STAMP_FILE, f"{time.time() - sent!r}\n".encode())


TASKS: dict[str, Callable[..., None]] = {"noop": noop, "sleep": sleep, "stamp": stamp}
