"""What the kernel knows of a family of processes, and how to end one (Linux; proc(5))."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
LOOK_EVERY_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a family in MiB: ``pss`` counts a shared page once, by shares."""

    processes: int
    pss: float
    rss: float


def _stat(pid: int) -> list[str]:
    """What follows the name in /proc/PID/stat; empty if the process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return []


def family(leader: int) -> list[int]:
    """The living processes of the session that ``leader`` leads, and their descendants wherever these went."""
    stats = {int(each.name): _stat(int(each.name)) for each in Path("/proc").glob("[0-9]*")}
    alive = {pid: fields for pid, fields in stats.items() if fields and fields[0] != "Z"}
    found = {pid for pid, fields in alive.items() if pid == leader or int(fields[3]) == leader}
    grown = True
    while grown:
        more = {pid for pid, fields in alive.items() if int(fields[1]) in found} - found
        found |= more
        grown = bool(more)
    return sorted(found)


def processor_seconds(pids: list[int]) -> float:
    """Seconds of processor time that these and the children they have waited for have used."""
    return sum(sum(int(each) for each in fields[11:15]) for fields in map(_stat, pids) if fields) / TICKS_PER_SECOND


def memory(pids: list[int]) -> Memory:
    """What these processes hold now (/proc/PID/smaps_rollup)."""
    kibibytes = {"Rss:": 0, "Pss:": 0}
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended since
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                name, *rest = line.split()
                if name in kibibytes:
                    kibibytes[name] += int(rest[0])
    return Memory(len(pids), round(kibibytes["Pss:"] / 1024, 1), round(kibibytes["Rss:"] / 1024, 1))


def end(process: subprocess.Popen[bytes], grace_seconds: float) -> None:
    """SIGTERM the leader of a session, wait, and SIGKILL by id whoever of its family is left."""
    members = family(process.pid)
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_seconds)
    # again until nobody is left: one of them may just have forked
    while members := [pid for pid in {*members, *family(process.pid)} if _is_member(pid, process.pid, members)]:
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.poll()
        time.sleep(LOOK_EVERY_SECONDS)
    process.wait()


def _is_member(pid: int, leader: int, known: list[int]) -> bool:
    """True for a living process of the session, or one that was seen in the family (children that left the session)."""
    fields = _stat(pid)
    return bool(fields) and fields[0] != "Z" and (pid in known or int(fields[3]) == leader)
