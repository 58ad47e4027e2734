"""docs/deploy.rst: what it tells people to copy is what works."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.support.embedded import ROOT
from tests.support.waiting import until

pytestmark = pytest.mark.processes
TEXT = (ROOT / "docs" / "deploy.rst").read_text("utf-8")


def block(language: str) -> str:
    """The code block in this language."""
    (found,) = re.findall(rf"code-block:: {language}\n\n((?:   .*\n|\n)+)", TEXT)
    return re.sub(r"^   ", "", found, flags=re.MULTILINE)


def json_after(word: str, text: str) -> list[str]:
    (found,) = re.findall(rf"^{word} .*?(\[.*\])$", text, flags=re.MULTILINE)
    words: list[str] = json.loads(found)
    return words


def docker() -> list[str]:
    return json_after("HEALTHCHECK", block("dockerfile"))


def ecs() -> list[str]:
    kind, *words = json.loads(block("json"))["healthCheck"]["command"]
    assert kind == "CMD"
    return words


def kubernetes_exec() -> list[str]:
    (found,) = re.findall(r"exec: {command: (\[.*?\])}", TEXT)
    words: list[str] = json.loads(found)
    return words


def kubernetes_worker() -> list[str]:
    (found,) = re.findall(r"args: (\[.*\])", block("yaml"))
    words: list[str] = json.loads(found)
    return words


def run(words: list[str], folder: Path) -> int:
    """A probe as a container's runtime starts it: without an application, without AWS."""
    assert words[0] == "pyqs-celery"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = subprocess.run(
        [sys.executable, "-m", "pyqs_celery", *words[1:]],
        env={**kept, "PYTHONPATH": str(ROOT), "PYQS_CELERY_CONTROL_DIR": str(folder)},
        capture_output=True,
        timeout=30,
        check=False,
    )
    return done.returncode


def worker_flags(words: list[str]) -> list[str]:
    """What stands behind ``worker``; the harness names the application."""
    assert words[:4] == ["pyqs-celery", "-A", "proj", "worker"]
    return words[4:]


@pytest.mark.parametrize("probe", [docker, ecs, kubernetes_exec])
def test_probes_by_command_are_green_while_the_worker_runs_and_red_after(sqs, start_worker, probe):
    sqs.create("emails")
    worker = start_worker(*worker_flags(json_after("CMD", block("dockerfile"))))
    worker.wait_ready()
    folder = worker.diary.path.parent / "control"

    until(lambda: run(probe(), folder) == 0, "green")
    assert worker.stop() == 0
    assert run(probe(), folder) == 1


def test_kubernetes_probes_by_http_are_green(sqs, start_worker, free_port):
    sqs.create("emails")
    text, words = block("yaml"), kubernetes_worker()
    assert set(re.findall(r"port: (\d+)", text)) == {words[words.index("--health-port") + 1]}
    words[words.index("--health-port") + 1] = str(free_port)
    worker = start_worker(*worker_flags(words))
    worker.wait_ready()

    pages = re.findall(r"path: (\S+),", text)
    assert len(pages) == 3
    for page in pages:
        until(lambda page=page: _status(free_port, page) == 200, f"{page} is green")


def _status(port: int, page: str) -> int:
    with urlopen(f"http://127.0.0.1:{port}{page}", timeout=5) as answer:
        return int(answer.status)


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_systemds_unit_starts_a_worker_where_its_probe_finds_it(sqs, start_worker, tmp_path):
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(block("ini"))
    service: Any = unit["Service"]
    program, *words = shlex.split(service["ExecStart"])
    variable, _, folder = service["Environment"].partition("=")
    assert program.endswith("/pyqs-celery")
    assert (variable, folder) == ("PYQS_CELERY_CONTROL_DIR", f"/run/{service['RuntimeDirectory']}")

    sqs.create("emails")
    worker = start_worker(*worker_flags(["pyqs-celery", *words]), **{variable: str(tmp_path / "run")})
    worker.wait_ready()
    until(lambda: run(["pyqs-celery", "health"], tmp_path / "run") == 0, "green")


def test_every_grace_is_longer_than_a_stop_takes():
    graces = [
        *re.findall(r"terminationGracePeriodSeconds: (\d+)", TEXT),
        *re.findall(r'"stopTimeout": (\d+)', TEXT),
        *re.findall(r"TimeoutStopSec=(\d+)", TEXT),
        *re.findall(r"docker stop -t (\d+)", TEXT),
    ]
    from pyqs_celery.worker.config import WorkerConfig

    config = WorkerConfig()
    assert len(graces) == 4
    assert all(int(grace) > config.shutdown_timeout + config.wait_time_seconds for grace in graces)
