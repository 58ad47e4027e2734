"""Real Celery as a peer: its own interpreter, our server, one diary for both sides.

``PYQS_CELERY_PEER_PYTHON`` names the interpreter that has Celery; without it this one must have it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import no_workers_of_others, sqs, sqs_server  # noqa: F401 - fixtures
from tests.support.embedded import ROOT, EmbeddedSqs
from tests.support.worker import Diary, processes_of_session

APPS = Path(__file__).parent / "apps"
PEER = os.environ.get("PYQS_CELERY_PEER_PYTHON") or sys.executable


def pytest_configure(config: pytest.Config) -> None:
    if sys.executable == PEER and importlib.util.find_spec("celery") is None:
        raise pytest.UsageError("compat_tests need real Celery: install it, or set PYQS_CELERY_PEER_PYTHON")


@pytest.fixture(scope="session")
def peer_version() -> tuple[int, ...]:
    """The peer's Celery version, (5, 7, 0)."""
    done = subprocess.run(
        [PEER, "-c", "import celery; print(celery.__version__)"], capture_output=True, text=True, check=True
    )
    return tuple(int(part) for part in done.stdout.strip().split(".")[:3])


class Stage:
    """Both sides on one server: ``produce`` sends, ``work`` starts a worker, ``diary`` is what the tasks wrote."""

    def __init__(self, endpoint: str, folder: Path) -> None:
        self.folder = folder
        self.diary = Diary(folder / "diary")
        self._workers: list[tuple[subprocess.Popen[str], Path]] = []
        self._environment = {
            **os.environ,
            "ENDPOINT": endpoint,
            "DIARY": str(self.diary.path),
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1",
            "C_FORCE_ROOT": "1",
        }

    def _side(self, side: str) -> tuple[str, dict[str, str]]:
        python = PEER if side == "celery_side" else sys.executable
        path = os.pathsep.join([str(APPS), *([str(ROOT)] if side == "our_side" else [])])
        return python, {**self._environment, "SIDE": side, "PYTHONPATH": path}

    def produce(self, side: str, *calls: list[Any]) -> None:
        python, environment = self._side(side)
        done = subprocess.run(
            [python, str(APPS / "produce.py"), side],
            input="\n".join(json.dumps(call) for call in calls),
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "sent" in done.stdout, done.stderr[-3000:]

    def work_as(self, side: str, app: str, *, keys: Path, identity: str) -> None:
        """A worker of ``app`` that signs as ``identity``."""
        self.work(side, "compat", app=app, KEYS=str(keys), IDENTITY=identity)

    def work(self, side: str, queues: str, *arguments: str, app: str | None = None, **variables: str) -> None:
        python, environment = self._side(side)
        environment.update(variables)
        module = "celery" if side == "celery_side" else "pyqs_celery"
        log = self.folder / f"{side}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [python, "-m", module, "-A", app or side, "worker", "-Q", queues, "-c", "2", "-l", "INFO", *arguments],
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._workers.append((process, log))

    def logs(self) -> str:
        return "\n".join(log.read_text() for _, log in self._workers)

    def wait(self, event: str, number: int, seconds: float = 60.0) -> Any:
        try:
            return self.diary.wait(event, number, seconds)
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self.logs()[-6000:]}") from exc

    def runs(self) -> list[dict[str, Any]]:
        return [entry for entry in self.diary.entries() if entry["event"] == "run"]

    def close(self) -> None:
        for process, _ in self._workers:
            process.terminate()
        for process, _ in self._workers:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
            for pid in processes_of_session(process.pid):
                os.kill(pid, 9)


@pytest.fixture
def make_stage(tmp_path: Path) -> Iterator[Callable[[str], Stage]]:
    stages: list[Stage] = []

    def make(endpoint: str) -> Stage:
        stages.append(Stage(endpoint, tmp_path))
        return stages[-1]

    yield make
    for stage in stages:
        stage.close()


@pytest.fixture
def stage(sqs: EmbeddedSqs, make_stage: Callable[[str], Stage]) -> Stage:  # noqa: F811 - the fixture imported above
    return make_stage(sqs.endpoint)
