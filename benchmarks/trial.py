"""One trial: one peer with an endpoint of its own, a worker and producers. Whatever it starts, ``close`` ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import processes
from benchmarks.environments import Environments
from benchmarks.producer import STARTED
from benchmarks.registry import RAW, Peer, find, queue_names
from benchmarks.sqs import Bodies, Endpoint
from benchmarks.work import COUNT_FILE, STAMP_FILE

PACKAGE = Path(__file__).parent
START_SECONDS = 60.0
SETTLE_SECONDS = 1.0
"""A worker has started when its number of open polls is above none and has not changed for so long."""
RESTLESS_SECONDS = 4.0
"""Or, since some peers' polls come and go all the time, when it has polled and its family has not grown for so long."""
LOOK_EVERY_SECONDS = 0.004
ASK_EVERY_SECONDS = 0.05
"""How often the endpoint is asked whether all is deleted, once all has run: it costs the endpoint time."""
STOP_SECONDS = 0.5
"""What a worker has between SIGTERM and SIGKILL: nothing is measured any more, and its endpoint ends with it."""
TAIL = 700


class TrialError(Exception):
    """A peer did not do what was asked of it; the message goes into the table."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a family of processes did in a stretch of time."""

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Drained:
    """How a drain went: tasks that ran, seconds until the last ran, and whether all of them did and were deleted."""

    tasks: int
    seconds: float
    complete: bool


class Unchanged:
    """For how long a number has been the same."""

    def __init__(self) -> None:
        self._value: int | None = None
        self._since = 0.0

    def seconds(self, value: int) -> float:
        """Seconds since it became what it is now."""
        now = time.monotonic()
        if value != self._value:
            self._value, self._since = value, now
        return now - self._since


class Trial:
    """A peer at work. ``store`` is a folder in which the bodies that peers send are kept between trials."""

    def __init__(self, peer: Peer, environments: Environments, store: Path, queues: int = 1) -> None:
        self.peer = peer
        self.queues = queue_names(queues)
        self._environments = environments
        self._store = store
        self._folder = Path(tempfile.mkdtemp(prefix=f"benchmark-{peer.name}-"))
        self._worker: subprocess.Popen[bytes] | None = None
        # Adapters are imported from a folder in which nothing else of this checkout is in sight.
        (self._folder / "home").mkdir()
        (self._folder / "home" / "benchmarks").symlink_to(PACKAGE)
        self._counted = self._folder / "count"
        self._stamps = self._folder / "stamps"
        for each in (self._counted, self._stamps):
            each.touch()
        command = environments.endpoint_command()
        try:
            self.endpoint = Endpoint(command, self._environment(""), self._folder / "endpoint.log")
        except BaseException:
            shutil.rmtree(self._folder)
            raise

    def close(self) -> None:
        """End whatever was started; a second time does nothing."""
        self.stop()
        self.endpoint.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _environment(self, endpoint: str) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AWS_", "PYTHON", "COV_", "PYQS_CELERY")) and "proxy" not in name.lower()
        }
        return {
            **inherited,
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": endpoint,
            "BENCHMARK_CELERY_BROKER": endpoint.replace("http://", "sqs://x:x@"),
            "BENCHMARK_QUEUES": ",".join(self.queues),
            COUNT_FILE: str(self._counted),
            STAMP_FILE: str(self._stamps),
            STARTED: repr(time.time()),
            "PYTHONPATH": str(self._folder / "home"),
            "C_FORCE_ROOT": "1",
            "NO_PROXY": "*",
            "no_proxy": "*",
            **self.peer.variables,
        }

    # -- producers ---------------------------------------------------------------------------------

    def run_python(self, *arguments: str, seconds: float = 120.0, peer: Peer | None = None) -> Any:
        """What a Python process of the peer's environment prints as JSON in its last line. Raises TrialError."""
        command = [str(self._environments.bin(peer or self.peer) / "python"), *arguments]
        process = subprocess.Popen(
            command,
            cwd=self._folder,
            env=self._environment(self.endpoint.url),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            out, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as exc:
            raise TrialError(f"not done after {seconds:g} s") from exc
        finally:
            processes.end(process, 0)
        if process.returncode or not out.strip():
            raise TrialError(f"exit code {process.returncode}: {_last_line(errors.decode(errors='replace'))}")
        return json.loads(out.splitlines()[-1])

    def produce(self, mode: str, number: int, *arguments: str, seconds: float = 120.0) -> dict[str, Any]:
        """Let the peer send tasks; see ``benchmarks.producer``."""
        module = f"benchmarks.peers.{self.peer.module}"
        start = ["-m", "benchmarks.producer", module, mode, str(number), "--queues", ",".join(self.queues)]
        answer: dict[str, Any] = self.run_python(*start, *arguments, seconds=seconds)
        return answer

    def raw_request_ms(self, queue: str, number: int) -> float:
        """How long one SendMessage of raw boto3 takes here, in milliseconds: the median of so many."""
        raw = find(RAW)
        start = ["-m", "benchmarks.producer", f"benchmarks.peers.{raw.module}", "each", str(number), "--warm"]
        return float(self.run_python(*start, "--queues", queue, peer=raw)["p50_ms"])

    def bodies(self, number: int, task: str = "noop", args: tuple[Any, ...] = ()) -> Bodies:
        """So many messages as the peer itself sends them; sent once, and kept in ``store``."""
        number = 1 if self.peer.same_bodies else number
        kept = self._store / f"bodies-{self.peer.environment}-{task}-{'-'.join(map(str, args))}-{number}.json"
        if not kept.exists():
            self.endpoint.prepare(self.queues)
            start = ["-m", "benchmarks.producer", f"benchmarks.peers.{self.peer.module}", "each", str(number)]
            account = self.run_python(*start, "--task", task, "--args", json.dumps(args), "--limit", "400", seconds=420)
            found = self.endpoint.take_bodies("bench", number)
            if len(found.texts) != number:
                raise TrialError(f"sent {len(found.texts)} of {number}: {account['errors']}")
            kept.write_text(json.dumps({"texts": found.texts, "attributes": found.attributes}))
        return Bodies(**json.loads(kept.read_text()))

    # -- the worker --------------------------------------------------------------------------------

    def start(self, children: int) -> None:
        """Start the worker and wait until it polls and is at rest. Raises TrialError."""
        with self._log.open("ab") as log:
            self._worker = subprocess.Popen(
                self.peer.command(self._environments.bin(self.peer), children, len(self.queues)),
                cwd=self._folder,
                env=self._environment(self.endpoint.url),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        polls, family = Unchanged(), Unchanged()
        while time.monotonic() < deadline:
            self.check_alive()
            open_polls = self.endpoint.open_polls()
            polls_rest, family_rest = polls.seconds(open_polls), family.seconds(len(self.pids))
            if open_polls and polls_rest > SETTLE_SECONDS:
                return
            if family_rest > RESTLESS_SECONDS and self.endpoint.requests().by_action.get("ReceiveMessage"):
                return
            time.sleep(ASK_EVERY_SECONDS)
        raise TrialError(f"no poll within {START_SECONDS:g} s: {_last_line(self._log.read_text())}")

    @property
    def _log(self) -> Path:
        return self._folder / "worker.log"

    def check_alive(self) -> None:
        """Raise TrialError if the worker has ended."""
        assert self._worker is not None
        if self._worker.poll() is not None:
            raise TrialError(f"the worker ended ({self._worker.returncode}): {_last_line(self._log.read_text())}")

    def stop(self) -> None:
        """End the worker and its family."""
        if self._worker is not None:
            processes.end(self._worker, STOP_SECONDS)
            self._worker = None

    @property
    def pids(self) -> list[int]:
        """The worker's family."""
        assert self._worker is not None
        return processes.family(self._worker.pid)

    def memory(self) -> processes.Memory:
        """What the worker's family holds."""
        return processes.memory(self.pids)

    @contextmanager
    def usage(self) -> Iterator[list[Usage]]:
        """Measure the worker's family; the list has one Usage afterwards."""
        found: list[Usage] = []
        cpu, wall = processes.processor_seconds(self.pids), time.perf_counter()
        yield found
        seconds = time.perf_counter() - wall
        found.append(Usage(seconds, processes.processor_seconds(self.pids) - cpu))

    # -- what tasks leave --------------------------------------------------------------------------

    def count(self) -> int:
        """How many tasks ran."""
        return self._counted.stat().st_size

    def delays(self) -> list[float]:
        """Seconds from sending to running, of each stamped task."""
        return [float(line) for line in self._stamps.read_text().splitlines()]

    def wait_counted(self, number: int, deadline: float) -> bool:
        """Wait until so many tasks have run; False if ``deadline`` (of ``time.perf_counter``) came first."""
        while self.count() < number:
            if time.perf_counter() > deadline:
                return False
            time.sleep(LOOK_EVERY_SECONDS)
        return True

    def wait_drained(self, number: int, limit_seconds: float, before: int = 0) -> Drained:
        """Wait until so many more tasks than ``before`` ran and nothing is left in the queues, or until the limit."""
        started = time.perf_counter()
        deadline = started + limit_seconds
        complete = self.wait_counted(before + number, deadline)
        seconds = time.perf_counter() - started
        tasks = self.count() - before
        while complete and self.endpoint.left():
            complete = time.perf_counter() < deadline
            time.sleep(ASK_EVERY_SECONDS)
        if not complete:
            self.check_alive()
        return Drained(tasks, seconds, complete)


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1][-TAIL:] if lines else "it said nothing"
