"""A consumer that is there and does nothing: the manager replaces it, unless the whole worker was asleep."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from pyqs_celery.worker.silence import LOOKS, Silence
from tests.support.proc import processes_of_session
from tests.support.waiting import until

pytestmark = [pytest.mark.processes, pytest.mark.slow]


def start(sqs, start_worker, *arguments):
    sqs.create("emails", VisibilityTimeout=5)
    worker = start_worker("-Q", "emails", "-c", "1", "-l", "INFO", *arguments)
    worker.wait_ready()
    return worker


def test_a_frozen_consumer_is_replaced_and_work_goes_on(sqs, start_worker, send, tmp_path):
    # given a worker whose child runs a task
    worker = start(sqs, start_worker, "worker_silence_timeout=6")
    consumer, _ = worker.wait_family(2)
    send("wait_for", "emails", "long", str(tmp_path / "gate"))
    worker.diary.wait("start", 1)

    # when its consumer freezes, and another task comes
    os.kill(consumer, signal.SIGSTOP)
    send("note", "emails", "after")

    # then it is replaced by itself, the new one runs what is there, and the manager is the same
    worker.wait_logged("has said nothing for 6 s and is killed", 40)
    (tmp_path / "gate").touch()
    assert worker.diary.wait("run", 1, 40) == {"after": 1}
    sqs.wait_empty("emails", 40)
    assert consumer not in processes_of_session(worker.session)
    assert worker.process.poll() is None
    assert worker.stop() == 0


def test_a_worker_that_was_stopped_as_a_whole_goes_on_with_the_same_consumer(sqs, start_worker, send):
    # given a worker
    worker = start(sqs, start_worker, "worker_silence_timeout=6")
    family = worker.wait_family(2)

    # when all its processes are stopped for longer than a consumer may be silent, and go on
    everybody = [worker.process.pid, *family]
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    threading.Event().wait(9)  # this is what is tested: time that passes while nobody can look
    for pid in everybody:
        os.kill(pid, signal.SIGCONT)

    # then nothing is replaced
    send("note", "emails", "after")
    worker.diary.wait("run", 1)
    until(lambda: not sqs.left("emails"), "the message is deleted")
    assert worker.family() == family
    assert "has said nothing" not in worker.log
    assert worker.stop() == 0


def test_looks_without_a_word_are_counted_not_seconds():
    silence = Silence(120.0)
    silence.begin(0.0)
    assert silence.next_due() == 10.0
    assert not silence.is_too_long(100_000.0, 1), "one look, however late, is one look"

    silence.heard()
    now = 100_000.0
    looks = 0
    while not silence.is_too_long(now, 1):
        now += 10.0
        looks += 1
    assert LOOKS <= looks <= LOOKS + 1

    assert silence.next_due() is None
    assert not silence.is_too_long(now + 1000, 1)


def test_nobody_is_replaced_for_silence_if_the_setting_is_0():
    silence = Silence(0.0)
    silence.begin(0.0)
    assert silence.next_due() is None
