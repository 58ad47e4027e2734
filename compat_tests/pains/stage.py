"""What a row is played on: a server of its own, one side's workers and producer, and what they left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.embedded import ROOT, EmbeddedSqs
from tests.support.waiting import until
from tests.support.worker import Diary, processes_of_session

APP = "compat_tests.pains.app"
LATE = {"task_acks_late": True, "task_reject_on_worker_lost": True}
"""What ``bench/peers/celery_late`` sets: the late acknowledgements that Celery's guides give for work that must not be lost."""


@dataclass(frozen=True)
class Side:
    """Real Celery or this package: an interpreter and the module that is run with ``-m``."""

    name: str
    python: str
    module: str

    def environment(self, endpoint: str, settings: dict[str, Any], diary: Path) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "PYTHON", "PYTEST"))}
        return {
            **kept,
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PAINS_SIDE": self.name,
            "PAINS_BROKER": broker_url(endpoint),
            "PAINS_SETTINGS": json.dumps(settings),
            "DIARY": str(diary),
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1",
            "C_FORCE_ROOT": "1",
        }


def ours() -> Side:
    return Side("ours", sys.executable, "pyqs_celery")


def celery(python: str) -> Side:
    return Side("celery", python, "celery")


def broker_url(endpoint: str) -> str:
    return f"sqs://test:test@{endpoint.removeprefix('http://')}//"


class Sender:
    """One side's producer process, shared by all stages of that side."""

    def __init__(self, side: Side, folder: Path) -> None:
        self._lock = threading.Lock()
        self._log = (folder / f"sender-{side.name}.log").open("w")
        self._process = subprocess.Popen(
            [side.python, "-m", "compat_tests.pains.sender"],
            env=side.environment("http://127.0.0.1:9", {}, folder / "unused"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
        )

    def send(self, call: dict[str, Any]) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(call) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        assert line, f"the producer ended: {Path(self._log.name).read_text()[-2000:]}"
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return str(answer["id"])

    def close(self) -> None:
        self._process.kill()
        self._process.wait(10)
        for stream in (self._process.stdin, self._process.stdout, self._log):
            assert stream is not None
            stream.close()


class Running:
    """One worker with its family."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.out = self.err = ""
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def ending(self) -> str:
        """ "lives", or how it ended."""
        code = self.process.poll()
        return "lives" if code is None else f"ends with exit code {code}"

    def family(self) -> list[int]:
        return processes_of_session(self.process.pid)

    def kill(self) -> None:
        """SIGKILL for everybody, as when a machine is lost. ``out`` and ``err`` are what a script has printed."""
        for pid in self.family():
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue
        self.process.wait(10)
        if self.process.stdout is not None and not self.process.stdout.closed:
            self.out, self.err = (text.decode(errors="replace") for text in self.process.communicate())

    def cpu_seconds(self) -> float:
        """User and system time of the whole family, ended children included."""
        ticks = 0
        for pid in self.family():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def cpu_spent(self, seconds: float) -> float:
        """CPU seconds of the next ``seconds``."""
        before = self.cpu_seconds()
        threading.Event().wait(seconds)
        return self.cpu_seconds() - before

    def descriptors(self) -> int:
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in self.family())


class Stage:
    """One row on one side. ``settings`` are for this side's application, in workers and producer alike."""

    def __init__(self, side: Side, folder: Path, senders: dict[str, Sender]) -> None:
        folder.mkdir(parents=True)
        self.side = side
        self.folder = folder
        self.settings: dict[str, Any] = {}
        self.diary = Diary(folder / "diary")
        self.sqs = EmbeddedSqs()
        self.sqs.ask("eventlog", on=True)
        self._sender = senders[side.name]
        self._celery_sender = senders["celery"]
        self._workers: list[Running] = []
        self._scripts: list[Running] = []

    def close(self) -> None:
        for worker in [*self._workers, *self._scripts]:
            worker.kill()
        self.sqs.close()

    @property
    def is_ours(self) -> bool:
        return self.side.name == "ours"

    # -- doing -------------------------------------------------------------------------------------

    def environment(self, settings: dict[str, Any] | None = None) -> dict[str, str]:
        return self.side.environment(self.sqs.endpoint, {**self.settings, **(settings or {})}, self.diary.path)

    def launch(
        self,
        *queues: str,
        concurrency: int = 1,
        arguments: tuple[str, ...] = (),
        settings: dict[str, Any] | None = None,
        variables: dict[str, str] | None = None,
    ) -> Running:
        """Start a worker and do not wait for it."""
        words = ["-A", APP, "worker", "-Q", ",".join(queues), "-c", str(concurrency), "-l", "INFO", *arguments]
        number = len(self._workers)
        log = self.folder / f"worker-{number}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [self.side.python, "-m", self.side.module, *words, "-n", self.node(number)],
                env={**self.environment(settings), **(variables or {})},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._workers.append(Running(process, log))
        return self._workers[-1]

    def node(self, number: int) -> str:
        """The node name of the stage's worker number ``number``."""
        return f"w{number}@{self.folder.name}"

    def wait_ready(self, *workers: Running) -> None:
        for worker in workers:
            until(lambda w=worker: not w.alive or " ready." in w.log, "the worker is ready", 90)
            assert worker.alive, worker.log[-3000:]

    def start(self, *queues: str, **options: Any) -> Running:
        """Start a worker, and wait until it is ready and polls."""
        worker = self.launch(*queues, **options)
        self.wait_ready(worker)
        for queue in queues[:10]:
            self.sqs.wait_polled(queue, 60)
        return worker

    def run(self, *words: str, seconds: float = 60.0) -> tuple[int, float, str]:
        """Run the side's command line: exit code, seconds, output."""
        began = time.monotonic()
        done = subprocess.run(
            [self.side.python, "-m", self.side.module, *words],
            env=self.environment(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        return done.returncode, time.monotonic() - began, done.stdout + done.stderr

    def script(self, code: str, *arguments: str) -> Running:
        """Run a piece of Python on this side, in a session of its own; it is ended with the stage."""
        process = subprocess.Popen(
            [self.side.python, "-W", "ignore", "-c", code, *arguments],
            env=self.environment(),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._scripts.append(Running(process, self.folder / "unused"))
        return self._scripts[-1]

    def send(self, task: str, queue: str, *args: Any, **options: Any) -> str:
        return self._sender.send(
            {
                "broker": broker_url(self.sqs.endpoint),
                "settings": self.settings,
                "task": f"pains.{task}",
                "args": list(args),
                "options": {"queue": queue, **options},
            }
        )

    def written(self, queue: str, task: str, calls: list[list[Any]]) -> list[str]:
        """The bodies of calls to a queue that nobody polls yet; the queue is empty again."""
        for args in calls:
            self.send(task, queue, *args)
        bodies = self.sqs.bodies(queue)
        self.sqs.client._client().purge_queue(QueueUrl=self.sqs.url(queue))
        assert len(bodies) == len(calls)
        return bodies

    def put_at_once(self, queue: str, bodies: list[str]) -> None:
        """All become visible at the same moment, as in a queue that was waiting."""
        self.sqs.ask("inject", queue=queue, bodies=bodies)

    def put_celery_messages(self, queue: str, number: int, **options: Any) -> None:
        """What a team's producers that still run Celery have sent, whatever side the workers are."""
        for key in range(number):
            call = {"task": "pains.note", "args": [key], "options": {"queue": queue, **options}}
            self._celery_sender.send({"broker": broker_url(self.sqs.endpoint), "settings": {}, **call})

    # -- seeing ------------------------------------------------------------------------------------

    def runs(self, event: str = "run") -> Counter[Any]:
        return self.diary.count(event)

    def first(self, event: str, key: Any) -> float:
        return next(each["at"] for each in self.diary.entries() if (each["event"], each["key"]) == (event, key))

    def happened(self, event: str, queue: str | None = None) -> list[list[Any]]:
        """Lines of the server's event log: [time, event, queue, message id, detail]."""
        events: list[list[Any]] = self.sqs.ask("eventlog")["events"]
        return [each for each in events if each[1] == event and queue in (None, each[2])]

    def stats(self) -> Counter[str]:
        return Counter(self.sqs.ask("counters")["stats"])

    def requests(self, action: str, queue: str) -> int:
        return int(self.sqs.ask("counters")["by_queue"].get(f"{action} {queue}", 0))

    def state(self, queue: str) -> dict[str, int]:
        return self.sqs.state(queue)


def within(fact: Callable[[], Any], seconds: float) -> float | None:
    """Seconds until the fact was true; None if it was not by then."""
    began = time.monotonic()
    try:
        until(fact, "a fact of a row", seconds)
    except AssertionError:
        return None
    return time.monotonic() - began


def watch(seconds: float, look: Callable[[], float]) -> float:
    """The largest value seen over a time."""
    most = look()
    pause = threading.Event()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pause.wait(0.1)
        most = max(most, look())
    return most
