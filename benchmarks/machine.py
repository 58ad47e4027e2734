"""What machine this is, for the heading of a report."""

from __future__ import annotations

import os
import platform
import shlex
import time
from pathlib import Path

from benchmarks.rows import Heading


def heading(arguments: list[str], versions: dict[str, str]) -> Heading:
    """The heading at the start of a run."""
    return Heading(
        date=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        command=shlex.join(["python", "-m", "benchmarks", *arguments]),
        python=f"Python {platform.python_version()}",
        machine=f"{platform.system()} {platform.release().split('-')[0]} {_processor()}",
        cores=len(os.sched_getaffinity(0)),
        versions=versions,
        load_start=list(os.getloadavg()),
    )


def _processor() -> str:
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return names[0] if names else platform.machine()
