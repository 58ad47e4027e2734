"""A worker works though nobody takes what it prints: a pipe without a reader, a full disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pyqs_celery import nodes
from tests.support.embedded import ROOT
from tests.support.waiting import until
from tests.support.worker import APP, Diary, processes_of_session

pytestmark = pytest.mark.processes
NAME = "w@here"


@pytest.fixture
def start(sqs, tmp_path):
    """``start(stdout, *arguments)``: a worker whose standard output is this descriptor; its errors go to tmp_path/errors."""
    started = []

    def go(stdout, *arguments):
        environment = {
            **os.environ,
            **sqs.environment,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{APP}",
            "DIARY": str(Diary(tmp_path / "diary").path),
            "C_FORCE_ROOT": "1",
            "PYQS_CELERY_CONTROL_DIR": str(tmp_path / "control"),
        }
        command = [
            sys.executable,
            "-m",
            "pyqs_celery",
            "-A",
            "proj",
            "worker",
            "-l",
            "INFO",
            "-Q",
            "emails",
            "-n",
            NAME,
        ]
        with (tmp_path / "errors").open("w") as errors:
            process = subprocess.Popen(
                [*command, *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=errors,
                start_new_session=True,
            )
        started.append(process)
        until(lambda: is_healthy(tmp_path), "it is ready", 60)
        return process

    yield go
    for process in started:
        for pid in processes_of_session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait(10)


def is_healthy(tmp_path):
    asked = nodes.ask("health", {}, destination=[NAME], timeout=5, folder=str(tmp_path / "control"))
    return asked.replies.get(NAME, {}).get("status") == "ok"


def test_a_worker_whose_reader_is_gone_gets_a_new_consumer_and_stops_in_good_order(sqs, start, send, tmp_path):
    # given a worker, and the other end of its output closed
    sqs.create("emails")
    reader, writer = os.pipe()
    process = start(writer, "-c", "1")
    os.close(writer)
    os.close(reader)

    # when its consumer dies
    consumer = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
    os.kill(consumer, signal.SIGKILL)

    # then the next one works, and a stop waits for what runs
    send("doze", "emails", "long", 2)
    until(lambda: sqs.state("emails")["inflight"] == 1, "it runs")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert sqs.left("emails") == 0
    assert Diary(tmp_path / "diary").count("run") == {"long": 1}
    assert (tmp_path / "errors").read_text().count("exited with") == 1
    assert "Standard output cannot be written" in (tmp_path / "errors").read_text()


def test_a_full_disk_costs_a_line_a_minute_and_no_task(sqs, start, send, tmp_path):
    # given a worker whose output and log go to a disk without room
    sqs.create("emails")
    with Path("/dev/full").open("w") as full:
        process = start(full, "-c", "1", "-f", "/dev/full")

    # when it works and stops
    for number in range(10):
        send("note", "emails", number)
    Diary(tmp_path / "diary").wait("run", 10)
    process.send_signal(signal.SIGTERM)

    # then that was said a few times, in a line each, and once of standard output before there was a log
    assert process.wait(60) == 0
    lost = "The log cannot be written: [Errno 28] No space left on device"
    banner = "Standard output cannot be written: [Errno 28] No space left on device"
    lines = (tmp_path / "errors").read_text().splitlines()
    assert set(lines) == {lost, banner}
    assert len(lines) <= 4
