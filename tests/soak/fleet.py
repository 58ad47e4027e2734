"""The workers of a soak: who they are, how they are started again, and what they use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.soak.plan import ALL_QUEUES, LEASE_SECONDS, STEADY_QUEUES
from tests.support.embedded import ROOT
from tests.support.proc import every_pid, parent_of, processes_of_session, state_of
from tests.support.waiting import until

APP = Path(__file__).parent / "app"
SHUTDOWN_SECONDS = 10
SHORTEST_LIFE_SECONDS = 1.0
"""So that a worker that cannot start is not started without pause."""


@dataclass(frozen=True)
class Usage:
    """What one process uses."""

    role: str
    pid: int
    kib: int
    threads: int
    descriptors: int


def usage_of(pid: int, role: str) -> Usage | None:
    """None if the process has ended."""
    try:
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
        )
        descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return None
    if "VmRSS" not in status:
        return None
    return Usage(role, pid, int(status["VmRSS"].split()[0]), int(status["Threads"]), descriptors)


@dataclass
class Member:
    """One worker of the fleet, started anew when it ends. ``application`` is soak_old, soak_new or soak_both."""

    name: str
    application: str
    folder: Path
    environment: Mapping[str, str]
    queues: str = ALL_QUEUES
    concurrency: int = 2
    process: subprocess.Popen[bytes] | None = None
    expected: set[int] = field(default_factory=set)
    """Exit codes that are in order for how this one was ended last."""
    starts: int = 0
    started: float = 0.0
    sessions: list[int] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    children_seen: set[int] = field(default_factory=set)

    def start(self) -> None:
        self.starts += 1
        self.started = time.monotonic()
        self.expected = set()
        command = [
            sys.executable,
            "-m",
            "pyqs_celery",
            "-A",
            self.application,
            "worker",
            "-l",
            "WARNING",
            "-n",
            f"{self.name}@%h",
        ]
        command += ["-Q", self.queues, "-c", str(self.concurrency)]
        command += [f"worker_lease_seconds={LEASE_SECONDS}", "worker_max_deliveries=3"]
        command += [f"worker_shutdown_timeout={SHUTDOWN_SECONDS}", "worker_queue_refresh_seconds=10"]
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env={
                    **self.environment,
                    "PYTHONPATH": f"{ROOT}{os.pathsep}{APP}",
                    "SOAK_WORKER": self.name,
                    "C_FORCE_ROOT": "1",
                },
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.sessions.append(self.process.pid)

    @property
    def manager(self) -> int:
        assert self.process is not None
        return self.process.pid

    def family(self) -> tuple[int, list[int]]:
        """(consumer, children); (0, []) while there is no consumer that has its threads."""
        pids = [pid for pid in processes_of_session(self.manager) if parent_of(pid) == self.manager]
        consumer = next((pid for pid in pids if self._is_consumer(pid)), 0)
        children = [pid for pid in pids if pid != consumer] if consumer else []
        self.children_seen.update(children)
        return consumer, children

    @staticmethod
    def _is_consumer(pid: int) -> bool:
        """It is the only one with threads."""
        found = usage_of(pid, "")
        return found is not None and found.threads > 1

    def signal(self, signum: int) -> None:
        """End the manager by a signal: in order, or by the signal itself if it has only just been started."""
        self.expected.update((0, -signum))
        os.kill(self.manager, signum)

    @property
    def is_ending(self) -> bool:
        """True if it was told to end; SIGHUP does not count, since it starts itself again, as the same application."""
        return bool(self.expected & {-signal.SIGTERM, -signal.SIGQUIT, -signal.SIGKILL})

    def poll(self) -> bool:
        """Start it again if it has ended; True if it had. An end that nobody asked for is a surprise."""
        assert self.process is not None
        code = self.process.poll()
        if code is None or time.monotonic() < self.started + SHORTEST_LIFE_SECONDS:
            return False
        if code not in self.expected:
            self.surprises.append(f"{self.name} ended by itself with {code} at its start no. {self.starts}")
        self.start()
        return True

    def usages(self) -> list[Usage]:
        consumer, children = self.family()
        roles = [("manager", self.manager), ("consumer", consumer), *(("child", pid) for pid in children)]
        return [found for role, pid in roles if pid and (found := usage_of(pid, role)) is not None]

    def stop(self, seconds: float = 60.0) -> None:
        """A warm stop, in order, of one that has started; what is left then is killed and told as a surprise."""
        process = self.process
        assert process is not None
        until(lambda: process.poll() is not None or self.family()[0], f"{self.name} has started", seconds)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.surprises.append(f"{self.name} did not stop within {seconds:g}s")
        else:
            in_order = {0, *self.expected}  # it may have been told to end before, when it had only just been started
            if code not in in_order:
                self.surprises.append(f"{self.name} stopped with {code}")

    def end(self) -> None:
        """Kill what is left of all its sessions, by id; whoever outlived its manager by a minute is a surprise."""
        for session in self.sessions:
            for pid in processes_of_session(session):
                if session != self.manager or self.process is None or self.process.poll() is not None:
                    self.surprises.append(f"process {pid} of {self.name} was left")
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        if self.process is not None:
            self.process.wait(10)

    def left(self) -> list[int]:
        return [pid for session in self.sessions for pid in processes_of_session(session)]


def zombies(managers: list[int]) -> set[int]:
    """Processes that have ended and were not waited for by the manager that is their parent."""
    return {pid for pid in every_pid() if state_of(pid) == "Z" and parent_of(pid) in managers}


def steady(folder: Path, environment: Mapping[str, str]) -> Member:
    """The worker that nobody kills, whose memory is watched."""
    return Member("steady", "soak_both", folder, environment, queues=STEADY_QUEUES)


class Pulse:
    """Notices when the whole machine, or this process, stood still: called often, it tells of long gaps."""

    MOST_SECONDS = 2.0

    def __init__(self) -> None:
        self._last = time.time()

    def beat(self) -> tuple[float, float] | None:
        """The gap (begin, end) since the last call, if it was long."""
        before, self._last = self._last, time.time()
        return (before, self._last) if self._last - before > self.MOST_SECONDS else None
