"""The peers: where each comes from, how its worker is started, and what it cannot do."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
RAW = "raw"
OURS = "pyqs-celery"
CELERY = "celery"
ENDPOINT_REQUIREMENTS = ("-e", str(CHECKOUT), "httptools", "uvloop", "orjson")

Command = Callable[[Path, int, int], list[str]]
"""From the environment's ``bin``, the number of children and the number of queues."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One of those that are measured.

    ``environment`` names the virtual environment, ``requirements`` what pip installs there, ``module`` the adapter in
    ``benchmarks.peers``, ``import_statement`` what a producer's module begins with. ``variables`` are settings.
    ``same_bodies``: its messages carry no id, so that one body stands for all. ``lacks`` names cases it cannot play,
    with the reason.
    """

    name: str
    environment: str
    requirements: tuple[str, ...]
    module: str
    import_statement: str
    command: Command
    variables: dict[str, str] = field(default_factory=dict)
    same_bodies: bool = False
    lacks: dict[str, str] = field(default_factory=dict)


def queue_names(number: int) -> list[str]:
    """``bench``, the adapters' default, and as many others as are wanted."""
    return ["bench", *(f"queue{place}" for place in range(1, number))]


def _celery(program: str, module: str) -> Command:
    def command(folder: Path, children: int, queues: int) -> list[str]:
        names = ",".join(queue_names(queues))
        start = [str(folder / "python"), "-m", program, "-A", module, "worker"]
        return [*start, "-Q", names, "-c", str(children), "-l", "WARNING"]

    return command


def _raw(folder: Path, children: int, queues: int) -> list[str]:
    return [str(folder / "python"), "-m", "benchmarks.peers.raw_worker", str(max(children, queues))]


def _pyqs(folder: Path, children: int, queues: int) -> list[str]:
    return [str(folder / "pyqs"), *queue_names(queues), "-c", str(children)]


def _dramatiq(folder: Path, children: int, queues: int) -> list[str]:
    """Processes of one thread each: the nearest it has to prefork."""
    start = [str(folder / "dramatiq"), "benchmarks.peers.dramatiq_app", "-p", str(children), "-t", "1"]
    return [*start, "-Q", *queue_names(queues)]


def _taskiq(folder: Path, children: int, _: int) -> list[str]:
    """Its own shape: at most two processes, and so many tasks in flight in all, in threads."""
    workers = min(children, 2)
    each = str(max(1, children // workers))
    start = [str(folder / "taskiq"), "worker", "benchmarks.peers.taskiq_app:broker", "-w", str(workers)]
    return [*start, "--max-async-tasks", each, "--max-threadpool-threads", each, "--log-level", "WARNING"]


_CELERY = ("celery==5.7.0", "kombu[sqs]==5.7.0")
_NO_BULK = {"bulk": "no bulk API"}
PEERS = [
    Peer(RAW, "raw", ("boto3",), "raw_app", "import boto3", _raw, same_bodies=True),
    Peer(
        OURS,
        "pyqs-celery",
        (str(CHECKOUT),),
        "pyqs_celery_app",
        "from pyqs_celery import shared_task",
        _celery("pyqs_celery", "benchmarks.peers.pyqs_celery_app"),
    ),
    Peer(
        CELERY,
        "celery",
        _CELERY,
        "celery_app",
        "from celery import shared_task",
        _celery("celery", "benchmarks.peers.celery_app"),
    ),
    Peer(
        "celery-tuned",
        "celery",
        _CELERY,
        "celery_app",
        "from celery import shared_task",
        _celery("celery", "benchmarks.peers.celery_app"),
        variables={"BENCHMARK_TRANSPORT_OPTIONS": json.dumps({"polling_interval": 0})},
        lacks=dict.fromkeys(("produce", "bulk", "import", "first"), "the setting is the worker's: as celery"),
    ),
    Peer(
        "pyqs",
        "pyqs",
        ("pyqs==1.0.1",),
        "pyqs_app",
        "from pyqs import task",
        _pyqs,
        same_bodies=True,
        lacks=_NO_BULK,
    ),
    Peer(
        "taskiq",
        "taskiq",
        ("taskiq==0.13.0", "taskiq-aio-sqs==2.1.1"),
        "taskiq_app",
        "from taskiq_aio_sqs import SQSBroker",
        _taskiq,
        lacks=_NO_BULK,
    ),
    Peer(
        "dramatiq",
        "dramatiq",
        ("dramatiq==2.2.1", "dramatiq-sqs==0.4.4"),
        "dramatiq_app",
        "import dramatiq; from dramatiq_sqs import SQSBroker",
        _dramatiq,
        lacks=_NO_BULK,
    ),
]


def find(name: str) -> Peer:
    """The peer of this name. Raises ValueError."""
    for peer in PEERS:
        if peer.name == name:
            return peer
    raise ValueError(f"no peer {name!r}; there are {', '.join(peer.name for peer in PEERS)}")
