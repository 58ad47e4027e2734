"""``celery.platforms``: the exit codes and the few helpers that other packages import or replace."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable

SYSTEM = platform.system()
IS_macOS = SYSTEM == "Darwin"
IS_WINDOWS = SYSTEM == "Windows"
EX_OK = getattr(os, "EX_OK", 0)
EX_FAILURE = 1
EX_USAGE = getattr(os, "EX_USAGE", 64)
EX_UNAVAILABLE = getattr(os, "EX_UNAVAILABLE", 69)
EX_CANTCREAT = getattr(os, "EX_CANTCREAT", 73)


def pyimplementation() -> str:
    """``CPython`` or what else this Python is."""
    return platform.python_implementation()


def isatty(stream: object) -> bool:
    """True if ``stream`` is a terminal."""
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except (AttributeError, ValueError):
        return False


def close_open_fds(keep: Iterable[object] | None = None) -> None:
    """Close every descriptor but those in ``keep`` (numbers or files), as a program does that goes to the background."""
    kept = sorted({each if isinstance(each, int) else each.fileno() for each in keep or ()})  # type: ignore[attr-defined]
    low = 0
    for number in kept:
        os.closerange(low, number)
        low = number + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX") if sys.platform != "win32" else 2048)
