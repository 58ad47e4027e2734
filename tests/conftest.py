"""Fixtures for everybody: an embedded SQS in its own process, and workers that never outlive their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.embedded import EmbeddedSqs
from tests.support.sender import Sender
from tests.support.servers import PostgresServer
from tests.support.worker import Worker


@pytest.fixture(scope="session", autouse=True)
def no_workers_of_others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whoever asks this host's workers in a test asks none but those that the test has started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYQS_CELERY_CONTROL_DIR", str(tmp_path_factory.mktemp("control")))
        yield


@pytest.fixture(scope="session")
def sqs_server() -> Iterator[EmbeddedSqs]:
    server = EmbeddedSqs()
    yield server
    server.close()


@pytest.fixture
def sqs(sqs_server: EmbeddedSqs) -> Iterator[EmbeddedSqs]:
    """The server, empty."""
    sqs_server.wipe()
    yield sqs_server
    sqs_server.wipe()


@pytest.fixture
def send(sqs: EmbeddedSqs) -> Iterator[Sender]:
    """``send("note", "emails", 1, countdown=3)`` sends proj.note(1) to the queue emails."""
    sender = Sender(sqs)
    yield sender
    sender.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """PostgreSQL; skips where it is not installed."""
    if PostgresServer.programs() is None:
        pytest.skip("PostgreSQL's server is not installed (apt-get install postgresql)")
    pytest.importorskip("psycopg")
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture
def start_worker(sqs: EmbeddedSqs, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """``start_worker("-Q", "emails", "-c", "2", VARIABLE="x")``; all share one diary."""
    workers: list[Worker] = []

    def start(*arguments: str, **options: Any) -> Worker:
        worker = Worker(sqs, tmp_path / "work", *arguments, **options)
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        worker.kill_all()
