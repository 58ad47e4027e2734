"""Workers of both sides on the queues of one fleet, and the drivers that send to them and read after them.

Roles are "ours" and "celery". In ``baseline`` real Celery plays both, which is how the expectations are made.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compat_tests.mixed import calls, canvases, table  # noqa: F401 - the first two fill the table
from compat_tests.mixed.servers import Servers
from tests.support.embedded import ROOT, EmbeddedSqs
from tests.support.waiting import until
from tests.support.worker import processes_of_session

DRIVER_SECONDS = 90
RUNS_AT_ONCE = 4
MODULES = {"celery": "celery", "ours": "pyqs_celery"}
OTHER = {"celery": "ours", "ours": "celery"}
CELERY_FLAGS = ("--without-gossip", "--without-mingle", "--without-heartbeat")


@dataclass(frozen=True)
class Run:
    """One driver's turn: who sends, and the queues that signatures go to by turns (none: the default queue)."""

    name: str
    sender: str
    queues: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fleet:
    """Workers by role with their queues, the queue that is the default, and the runs."""

    name: str
    workers: dict[str, tuple[str, ...]]
    default_queue: str
    runs: tuple[Run, ...]
    store: str = "redis"
    kind: str = "plain"


def pure_fleets() -> list[Fleet]:
    """One side sends, the other runs."""
    return [
        Fleet("celery-sends-we-run", {"ours": ("ours-only",)}, "ours-only", (Run("celery-sends-we-run", "celery"),)),
        Fleet(
            "we-send-celery-runs", {"celery": ("celery-only",)}, "celery-only", (Run("we-send-celery-runs", "ours"),)
        ),
    ]


def spread_fleet(name: str, *, store: str = "redis", kind: str = "plain", all_orders: bool = True) -> Fleet:
    """Both sides work: each on a queue of its own, both on a third. Signatures go to the first two by turns."""
    ours, celery, shared = f"{name}-o", f"{name}-c", f"{name}-s"
    prefix = f"{name}-"
    runs = [
        Run(f"{prefix}celery-sends-we-begin", "celery", (ours, celery)),
        Run(f"{prefix}we-send-celery-begins", "ours", (celery, ours)),
    ]
    if all_orders:
        runs += [
            Run(f"{prefix}celery-sends-celery-begins", "celery", (celery, ours)),
            Run(f"{prefix}we-send-we-begin", "ours", (ours, celery)),
            Run(f"{prefix}celery-sends-to-one-queue", "celery"),
            Run(f"{prefix}we-send-to-one-queue", "ours"),
        ]
    else:
        runs += [
            Run(f"{prefix}celery-sends-we-run", "celery", (ours,)),
            Run(f"{prefix}we-send-celery-runs", "ours", (celery,)),
        ]
    workers = {"ours": (ours, shared), "celery": (celery, shared)}
    return Fleet(name, workers, shared, tuple(runs), store, kind)


BATCHES = (
    pure_fleets(),
    [spread_fleet("spread")],
    [spread_fleet(kind, kind=kind, all_orders=False) for kind in ("pickle", "packed")],
    [spread_fleet(store, store=store, all_orders=False) for store in ("dynamodb", "sqlite", "s3")],
)
"""Fleets that run at the same time: most of their time they wait."""

FLEETS = {fleet.name: fleet for batch in BATCHES for fleet in batch}


@dataclass
class Answers:
    """What the drivers of one run saw: the sender's answers, and both readings of the same results."""

    sent: dict[str, Any]
    read: dict[str, dict[str, Any]]
    ran: dict[str, list[str]]
    """Which roles' workers have run each behaviour's tasks, as far as their results tell."""


class Machine:
    """Starts and ends the processes of fleets. ``pythons`` gives each role its interpreter and the side it really is."""

    def __init__(
        self, sqs: EmbeddedSqs, folder: Path, roles: dict[str, tuple[str, str]], version: tuple[int, ...]
    ) -> None:
        self.sqs = sqs
        self.folder = folder
        self.roles = roles
        self.version = version
        self.left_behind: list[int] = []
        self.left_on_queues: dict[str, dict[str, int]] = {}

    # -- surroundings ------------------------------------------------------------------------------

    def environment(self, role: str, fleet: Fleet, store_settings: dict[str, Any], folder: Path) -> dict[str, str]:
        port = self.sqs.endpoint.rpartition(":")[2]
        settings = {
            "broker_url": f"sqs://test:test@127.0.0.1:{port}//",
            "broker_transport_options": {
                "region": "us-east-1",
                "is_secure": False,
                "wait_time_seconds": 1,
                "polling_interval": 0.1,
                "visibility_timeout": 300,
            },
            "broker_connection_retry_on_startup": True,
            "task_default_queue": fleet.default_queue,
            "accept_content": ["json", "pickle"],
            "result_extended": True,
            "result_chord_retry_interval": 0.3,
            "worker_enable_remote_control": False,
            "worker_send_task_events": False,
            **store_settings,
        }
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "MIXED_SIDE": self.roles[role][1],
            "MIXED_ROLE": role,
            "MIXED_SETTINGS": json.dumps(settings),
            "MIXED_DIARY": str(folder / "diary"),
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1",
            "C_FORCE_ROOT": "1",
        }

    # -- processes ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def working(self, fleet: Fleet, environments: dict[str, dict[str, str]], folder: Path) -> Iterator[None]:
        """The fleet's workers, ready; none of their processes is left afterwards."""
        started: list[tuple[subprocess.Popen[bytes], Path]] = []
        try:
            for role, queues in fleet.workers.items():
                started.append(self._start_worker(role, queues, environments[role], folder))
            for process, log in started:
                until(
                    lambda p=process, f=log: p.poll() is not None or " ready." in f.read_text(),
                    f"{log.name}: ready",
                    60,
                )
                assert process.poll() is None, log.read_text()[-3000:]
            yield
        finally:
            for process, _ in started:
                process.terminate()
            for process, _ in started:
                self._end(process)

    def _start_worker(
        self, role: str, queues: tuple[str, ...], environment: dict[str, str], folder: Path
    ) -> tuple[subprocess.Popen[bytes], Path]:
        python, side = self.roles[role]
        log = folder / f"worker-{role}.log"
        flags = CELERY_FLAGS if side == "celery" else ()
        words = ["-A", "compat_tests.mixed.app", "worker", "-Q", ",".join(queues), "-c", "2", "-l", "INFO", *flags]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [python, "-m", MODULES[side], *words, "-n", f"{role}@%h"],
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return process, log

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            self.left_behind.append(process.pid)
            process.kill()
            process.wait(10)
        with contextlib.suppress(AssertionError):
            until(lambda: not processes_of_session(process.pid), "no process of the worker is left", 5)
        for pid in processes_of_session(process.pid):
            self.left_behind.append(pid)
            os.kill(pid, 9)

    def drive(self, role: str, what: str, plan: dict[str, Any], environment: dict[str, str], folder: Path) -> Any:
        python, side = self.roles[role]
        done = subprocess.run(
            [python, "-m", "compat_tests.mixed.driver", side, what],
            input=json.dumps(plan),
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=DRIVER_SECONDS * 3,
            check=False,
        )
        assert done.returncode == 0, f"{role} could not {what}:\n{done.stderr[-4000:]}"
        return json.loads(done.stdout.splitlines()[-1])

    # -- a fleet from its start to its end -----------------------------------------------------------

    def run(self, fleet: Fleet, store_settings: dict[str, Any]) -> dict[str, Answers]:
        folder = self.folder / fleet.name
        folder.mkdir(parents=True)
        (folder / "diary").touch()
        environments = {role: self.environment(role, fleet, store_settings, folder) for role in OTHER}
        for queue in {fleet.default_queue, *(queue for queues in fleet.workers.values() for queue in queues)}:
            self.sqs.create(queue, VisibilityTimeout=300)
        if fleet.store == "sqlite":
            # A team that comes from Celery has the tables of its version, which may lack columns.
            self.drive("celery", "prepare", {"label": "", "queues": []}, environments["celery"], folder)
        with self.working(fleet, environments, folder):
            with ThreadPoolExecutor(RUNS_AT_ONCE) as threads:
                answers = list(threads.map(lambda run: self._run(run, fleet, environments, folder), fleet.runs))
            self._see_queues(fleet)
        return {run.name: answer for run, answer in zip(fleet.runs, answers, strict=True)}

    def _see_queues(self, fleet: Fleet) -> None:
        """Wait a little for the queues to be empty, and keep what is left."""
        queues = {queue for queues in fleet.workers.values() for queue in queues}
        with contextlib.suppress(AssertionError):
            until(lambda: not any(map(self.sqs.left, queues)), "the queues are empty", 5)
        self.left_on_queues[fleet.name] = {queue: left for queue in queues if (left := self.sqs.left(queue))}

    def _run(self, run: Run, fleet: Fleet, environments: dict[str, dict[str, str]], folder: Path) -> Answers:
        sender, other = run.sender, OTHER[run.sender]
        plan: dict[str, Any] = {
            "label": run.name,
            "queues": list(run.queues),
            "seconds": DRIVER_SECONDS,
            "behaviours": table.names(store=fleet.store, kind=fleet.kind, version=self.version),
        }
        plan["drawn"] = self.drive(other, "draw", plan, environments[other], folder)
        sent = self.drive(sender, "send", plan, environments[sender], folder)
        results = {
            name: {"result": entry["result"], **entry["handed over"]} for name, entry in sent.items() if entry["result"]
        }
        read = {
            role: self.drive(
                role, "read", {"label": run.name, "queues": [], "results": results}, environments[role], folder
            )
            for role in (sender, other)
        }
        ran = {name: sorted(workers(reading)) for name, reading in read[sender].items()}
        return Answers(sent, read, ran)


def workers(reading: Any) -> set[str]:
    """The roles of the workers that a reading names, parents and children included."""
    if isinstance(reading, list):
        return set().union(*map(workers, reading))
    if not isinstance(reading, dict):
        return set()
    named = {str(reading["worker"]).partition("@")[0]} if reading.get("worker") else set()
    return named.union(*(workers(reading.get(key)) for key in ("children", "results", "parent", "result", "restored")))


def run_batch(machine: Machine, fleets: list[Fleet], servers: Servers) -> dict[str, dict[str, Answers]]:
    """The answers of each fleet's runs; all fleets of the batch run at the same time."""
    settings = [store_settings(fleet, servers, machine) for fleet in fleets]
    with ThreadPoolExecutor(len(fleets)) as threads:
        answers = threads.map(machine.run, fleets, settings)
        return {fleet.name: answer for fleet, answer in zip(fleets, answers, strict=True)}


def store_settings(fleet: Fleet, servers: Servers, machine: Machine) -> dict[str, Any]:
    """The result back end of a fleet."""
    if fleet.kind == "pickle":
        return {"result_backend": servers.redis.url(1), "result_serializer": "pickle"}
    if fleet.kind == "packed":
        packed = {"result_compression": "gzip"} if machine.version >= (5, 7) else {}
        return {
            "result_backend": servers.redis.url(2),
            "result_backend_transport_options": {"global_keyprefix": "team"},
            **packed,
        }
    if fleet.store == "dynamodb":
        return {"result_backend": "dynamodb://us-east-1/results", "dynamodb_endpoint_url": servers.moto.endpoint}
    if fleet.store == "sqlite":
        return {"result_backend": f"db+sqlite:///{machine.folder / fleet.name / 'results.sqlite'}"}
    if fleet.store == "s3":
        return {
            "result_backend": "s3://",
            "s3_bucket": "results",
            "s3_base_path": "celery/",
            "s3_endpoint_url": servers.moto.endpoint,
            "s3_region": "us-east-1",
            "s3_access_key_id": "test",
            "s3_secret_access_key": "test",
        }
    return {"result_backend": servers.redis.url(0)}


def peer_version(python: str) -> tuple[int, ...]:
    done = subprocess.run(
        [python, "-c", "import celery; print(celery.__version__)"], capture_output=True, text=True, check=True
    )
    return tuple(int(part) for part in done.stdout.strip().split(".")[:3])


def roles(peer: str, *, celery_alone: bool = False) -> dict[str, tuple[str, str]]:
    """Which interpreter and which side plays each role."""
    ours = (peer, "celery") if celery_alone else (sys.executable, "ours")
    return {"celery": (peer, "celery"), "ours": ours}
