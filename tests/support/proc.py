"""What the kernel knows of a process."""

from __future__ import annotations

import os
from pathlib import Path

MEBIBYTE = 1024 * 1024


def stat(pid: int) -> list[str]:
    """What follows the name in /proc/PID/stat: state, parent, group, session ... (proc(5)); [] if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return []


def state_of(pid: int) -> str:
    """R, S, T, Z ...; empty if there is no such process."""
    return (stat(pid) or [""])[0]


def parent_of(pid: int) -> int:
    """0 if there is no such process."""
    return int((stat(pid) or ["", "0"])[1])


def every_pid() -> list[int]:
    """All processes of the machine, zombies too."""
    return sorted(int(entry.name) for entry in Path("/proc").glob("[0-9]*"))


def processes_of_session(session: int, *, zombies: bool = False) -> list[int]:
    """A session's living processes, or those that have ended and nobody has waited for. The oldest first.

    By their age, since process ids begin again at some number.
    """
    fields = ((pid, stat(pid)) for pid in every_pid())
    found = [(pid, each) for pid, each in fields if each and int(each[3]) == session and (each[0] == "Z") is zombies]
    return [pid for pid, each in sorted(found, key=lambda one: (int(one[1][19]), one[0]))]


def resident_mebibytes(pid: int) -> float:
    """Memory that the process has for itself or shares, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"process {pid} has ended")


def proportional_mebibytes(pid: int) -> float:
    """Memory that the process has for itself, and its part of what it shares (PSS), in MiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"process {pid} has ended")


def threads(pid: int) -> int:
    """How many threads it has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def descriptors(pid: int) -> int:
    """How many descriptors it has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def processor_seconds(*pids: int) -> float:
    """Seconds of processor time they have used."""
    fields = [stat(pid) for pid in pids]
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")
