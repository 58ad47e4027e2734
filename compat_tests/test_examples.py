"""The applications of Celery's documentation, written anew, after nothing but the swap of their imports."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.embedded import ROOT
from tests.support.waiting import until
from tests.support.worker import processes_of_session

EXAMPLES = Path(__file__).parent / "examples"


class Example:
    """A copy of an example, its imports swapped."""

    def __init__(self, name, folder, sqs):
        self.folder = folder / name
        shutil.copytree(EXAMPLES / name, self.folder)
        self.environment = {
            **os.environ,
            **sqs.environment,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{self.folder}",
            "C_FORCE_ROOT": "1",
            "PYTHONUNBUFFERED": "1",
        }
        self.started = []
        swapped = self.run("-m", "pyqs_celery", "migrate", "--write", ".")
        assert "left" not in swapped.stderr

    def run(self, *words):
        return subprocess.run(
            [sys.executable, *words],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )

    def start(self, *words):
        """A command in the background; the path of its log."""
        log = self.folder / f"log-{len(self.started)}"
        with log.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "pyqs_celery", *words],
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(process)
        return log

    def end(self):
        for process in self.started:
            process.terminate()
            process.wait(40)
            for pid in processes_of_session(process.pid):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def example(sqs, tmp_path):
    made = []
    sqs.create("celery")

    def take(name):
        made.append(Example(name, tmp_path, sqs))
        return made[-1]

    yield take
    for each in made:
        each.end()


def logged(log, *texts):
    until(lambda: all(text in log.read_text() for text in texts), f"{texts} in the log", 40)


def test_first_steps(example):
    it = example("tutorial")
    task_id = it.run("client.py").stdout.strip()

    log = it.start("-A", "tasks", "worker", "--loglevel=INFO")

    logged(log, f"Task tasks.add[{task_id}] received", f"Task tasks.add[{task_id}] succeeded in", ": 8")


def test_next_steps(example):
    it = example("next_steps")
    it.run("client.py")

    log = it.start("-A", "proj", "worker", "-l", "INFO", "-c", "2")

    logged(log, "proj.tasks.add[", ": 4", ": 5", "proj.tasks.mul[", ": 8", ": 20")


def test_periodic_tasks(example):
    it = example("periodic")

    worker = it.start("-A", "tasks", "worker", "-l", "INFO")
    beat = it.start("-A", "tasks", "beat", "-l", "INFO")

    logged(beat, "Scheduler: Sending due task every second (tasks.test)", "entries -> 3")
    logged(worker, "WARNING/ForkPoolWorker", "hello")


def test_pydantic(example):
    it = example("pydantic_example")
    it.run("client.py")

    log = it.start("-A", "tasks", "worker", "-l", "INFO")

    logged(log, "{'value': 'example: 1'}")
