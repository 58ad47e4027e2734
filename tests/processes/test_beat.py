"""Beat as a process: sends, survives a kill, and two of them with a lock."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.support.embedded import ROOT
from tests.support.waiting import until
from tests.support.worker import APP, processes_of_session

pytestmark = pytest.mark.processes
EVERY_SECOND = {"tick": {"task": "proj.note", "schedule": 1.0, "args": ["tick"], "options": {"queue": "emails"}}}


@pytest.fixture
def beat(sqs, tmp_path):
    """``beat("-s", file, **settings)`` starts one; its log is at ``.log``."""
    started = []

    def start(*words, folder=tmp_path, **settings):
        log = folder / f"beat-{len(started)}.log"
        conf = json.dumps({"beat_schedule": EVERY_SECOND, **settings})
        with log.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, "-u", "-m", "pyqs_celery", "-A", "proj", "beat", "-l", "INFO", *words],
                env={
                    **os.environ,
                    **sqs.environment,
                    "PYTHONPATH": f"{ROOT}{os.pathsep}{APP}",
                    "PROJ_CONF": conf,
                    "DIARY": str(folder / "diary"),
                },
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process.log = log
        started.append(process)
        return process

    yield start
    for process in started:
        for pid in processes_of_session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait(10)


def ticks(process):
    return process.log.read_text().count("Sending due task tick")


def test_a_killed_beat_goes_on_where_it_was(sqs, beat, tmp_path):
    # given a beat that has sent something and is killed
    sqs.create("emails")
    first = beat()
    until(lambda: ticks(first) >= 2, "two ticks")
    first.kill()
    first.wait(10)
    sent = sqs.left("emails")
    known = json.loads((tmp_path / "celerybeat-schedule").read_text())["entries"]["tick"]["total_run_count"]
    assert known in (sent, sent - 1, sent + 1)

    # when another begins
    second = beat()
    until(lambda: ticks(second) >= 2, "two more ticks")
    second.terminate()

    # then it counts on from there, and ends in good order
    assert second.wait(10) == 0
    after = json.loads((tmp_path / "celerybeat-schedule").read_text())["entries"]["tick"]["total_run_count"]
    assert after >= known + 2
    assert sqs.left("emails") == sent + ticks(second)


def test_two_beats_on_one_file_are_refused(sqs, beat):
    sqs.create("emails")
    first = beat()
    until(lambda: ticks(first) >= 1, "a tick")

    second = beat()

    assert second.wait(20) == 3
    assert f"another beat (process {first.pid})" in second.log.read_text()


def test_of_two_beats_with_a_lock_one_ticks_and_the_other_takes_over(sqs, beat, tmp_path):
    # given two beats of different machines, with a lock
    sqs.create("emails")
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    first = beat(folder=folders[0], beat_lock_queue="lock.fifo", beat_lock_seconds=10)
    until(lambda: ticks(first) >= 1, "a tick of the first")
    second = beat(folder=folders[1], beat_lock_queue="lock.fifo", beat_lock_seconds=10)
    until(lambda: "beat: Starting" in second.log.read_text() and ticks(first) >= 4, "more ticks of the first")
    assert ticks(second) == 0

    # when the first is stopped
    first.terminate()
    assert first.wait(20) == 0
    until(lambda: ticks(second) >= 2, "ticks of the second")

    # then nothing was sent twice: every tick is in exactly one log
    second.terminate()
    assert second.wait(20) == 0
    assert sqs.left("emails") == ticks(first) + ticks(second)


def test_a_worker_with_b_sends_and_runs_and_ends_with_its_beat(sqs, start_worker):
    sqs.create("emails")
    worker = start_worker("-B", "-Q", "emails", "-c", "1", PROJ_CONF=json.dumps({"beat_schedule": EVERY_SECOND}))

    worker.diary.wait("run", 2)

    assert "beat: Starting" in worker.log
    assert worker.stop() == 0


def test_a_killed_beat_of_a_worker_is_started_again(sqs, start_worker):
    sqs.create("emails")
    worker = start_worker("-B", "-Q", "emails", "-c", "1", PROJ_CONF=json.dumps({"beat_schedule": EVERY_SECOND}))
    worker.diary.wait("run", 1)
    children = worker.wait_family(3)

    os.kill(children[-1], signal.SIGKILL)
    worker.wait_logged("The beat pid:")

    worker.diary.wait("run", worker.diary.count("run")["tick"] + 2)
    assert worker.stop() == 0
