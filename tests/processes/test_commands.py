"""The remaining commands, each as a person types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.support.embedded import ROOT
from tests.support.waiting import until
from tests.support.worker import APP

pytestmark = pytest.mark.processes


@pytest.fixture
def command(sqs, tmp_path):
    def run(*words, text=None, **variables):
        return subprocess.run(
            [sys.executable, "-m", "pyqs_celery", *words],
            env={
                **os.environ,
                **sqs.environment,
                "PYTHONPATH": f"{ROOT}{os.pathsep}{APP}",
                "DIARY": str(tmp_path / "diary"),
                "C_FORCE_ROOT": "1",
                **variables,
            },
            cwd=tmp_path,
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_call_sends_a_task_and_prints_its_id(sqs, command):
    sqs.create("emails")

    done = command(
        "-A", "proj", "call", "proj.note", "-a", '["x"]', "-k", "{}", "--queue", "emails", "--countdown", "900"
    )

    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip()) == 36
    assert sqs.state("emails")["delayed"] == 1


def test_purge_asks_and_then_empties_what_was_named(sqs, command):
    for queue in ("a.one", "a-one", "b"):
        sqs.create(queue.replace(".", "-"))
    sqs.put("a-one", "x")
    sqs.put("b", "x")

    refused = command("-A", "proj", "purge", "-Q", "a.one,b", text="n\n")
    assert refused.returncode == 1
    assert sqs.left("a-one") == sqs.left("b") == 1

    done = command("-A", "proj", "purge", "-f", "-Q", "a.*")
    assert "Purged about 1 messages from 1 known task queue." in done.stdout
    assert (sqs.left("a-one"), sqs.left("b")) == (0, 1)


def test_purge_of_what_is_not_there(command):
    done = command("-A", "proj", "purge", "-f", "-Q", "nobody")

    assert done.returncode == 0
    assert "nothing was purged" in done.stdout


def test_what_the_application_knows_is_shown_without_secrets(command):
    conf = json.dumps({"task_default_queue": "emails", "redis_password": "geheim", "broker_url": "sqs://KEY:SECRET@"})

    registered = command("-A", "proj", "inspect", "registered")
    settings = command("-A", "proj", "inspect", "conf", PROJ_CONF=conf)
    report = command("-A", "proj", "report", PROJ_CONF=conf)
    listed = command("-A", "proj", "list", PROJ_CONF=conf)

    assert "proj.note" in registered.stdout.split()
    assert "task_default_queue: 'emails'" in settings.stdout
    for shown in (settings.stdout, report.stdout):
        assert "geheim" not in shown
        assert "SECRET@" not in shown
    assert "software -> pyqs-celery" in report.stdout
    assert "emails" in listed.stdout


def test_a_shell_has_the_application_and_its_tasks(command):
    done = command("-A", "proj", "shell", "--python", text="print(app.main, note.name)\n")

    assert "proj proj.note" in done.stdout


def test_multi_starts_and_stops_workers_in_the_background(sqs, command, tmp_path):
    sqs.create("emails")
    words = (
        "w1",
        "w2",
        "-A",
        "proj",
        "-c",
        "1",
        "-c:w2",
        "2",
        "-Q",
        "emails",
        "-l",
        "INFO",
        "--pidfile=%n.pid",
        "--logfile=%n%I.log",
    )

    shown = command("multi", "show", *words).stdout
    assert shown.count("--detach") == 2
    assert "-c 2" in shown.splitlines()[1]

    started = command("multi", "start", *words)
    assert started.stdout.count("OK") == 2, started.stderr
    for name in ("w1", "w2"):
        log = tmp_path / f"{name}.log"
        until(lambda log=log: " ready." in log.read_text(), f"{name} is ready")

    stopped = command("multi", "stopwait", *words)
    assert stopped.returncode == 0
    assert not list(tmp_path.glob("*.pid"))
    assert "DOWN" in command("multi", "stop", *words).stdout


def test_a_detached_worker_under_a_pidfile_is_not_started_twice(sqs, command, tmp_path):
    sqs.create("emails")
    words = ("-A", "proj", "worker", "-D", "-Q", "emails", "-c", "1", "--pidfile", "w.pid", "-f", "w.log", "-l", "INFO")
    command(*words)
    until(lambda: (tmp_path / "w.log").exists() and "ready." in (tmp_path / "w.log").read_text(), "the worker is ready")

    second = command("-A", "proj", "worker", "-Q", "emails", "--pidfile", "w.pid")

    assert second.returncode == 73
    pid = int((tmp_path / "w.pid").read_text())
    os.kill(pid, 15)
    until(lambda: not (tmp_path / "w.pid").exists(), "the worker has ended")


def test_green_pools_run_as_threads_and_say_so(sqs, start_worker, send):
    sqs.create("emails")
    send("note", "emails", 1)

    worker = start_worker("-P", "gevent", "-c", "3", "-Q", "emails")

    worker.diary.wait("run", 1)
    worker.wait_logged("there are no green threads here")
    assert worker.stop() == 0
