"""Lines for people on standard output, which may be a pipe that nobody reads any more or a file on a full disk.

A worker goes on without them: what must be known is in the log too.
"""

from __future__ import annotations

import logging
import os
import sys
import time

from pyqs_celery.utils.log import Sometimes

logger = logging.getLogger("celery.worker")
_tell = Sometimes()


def say(line: str) -> None:
    """Print a line; where that cannot be, the log says so once a minute."""
    try:
        print(line, flush=True)  # noqa: T201 - Celery says these lines on standard output
    except OSError as exc:
        if _tell("stdout", time.monotonic()):
            logger.warning("Standard output cannot be written: %s", exc)


def let_go() -> None:
    """At the end: what still cannot be written goes nowhere, else Python would end with exit code 120."""
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is None or stream.closed:
            continue
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
