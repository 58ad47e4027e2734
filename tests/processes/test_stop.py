"""Stopping: running tasks finish, everything else goes back, nobody is left."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from tests.support.waiting import until

pytestmark = pytest.mark.processes


@pytest.fixture
def gate(tmp_path):
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


@pytest.fixture
def held_up(sqs, start_worker, send, gate):
    """A worker with one task at the gate in each of two children and twenty more messages, some of them prefetched."""
    sqs.create("emails")

    def start(*arguments):
        for number in range(2):
            send("pass_gate", "emails", number, str(gate))
        worker = start_worker("-Q", "emails", "-c", "2", "--prefetch-multiplier", "5", *arguments)
        worker.diary.wait("start", 2)
        with send.app.publisher().batch():
            for number in range(20):
                send("note", "emails", number)
        until(lambda: sqs.state("emails")["inflight"] == 10, "ten messages are held")
        return worker

    return start


def open_gate(gate, readers: int = 1):
    for _ in range(readers):
        gate.write_text("")


def test_sigterm_lets_running_tasks_finish_and_gives_the_rest_back(sqs, held_up, gate):
    worker = held_up()

    worker.send_signal(signal.SIGTERM)

    # every unstarted message is visible within two seconds of the end of the last poll
    until(lambda: not sqs.is_polled("emails"), "no poll is open", 5)
    until(lambda: sqs.state("emails")["visible"] == 20, "all unstarted messages are visible", 2)
    assert worker.process.poll() is None
    open_gate(gate)
    assert worker.wait() == 0
    worker.check_nobody_left()
    assert sorted(worker.diary.count("end")) == [0, 1]
    assert not worker.diary.count("run")
    assert sqs.state("emails")["inflight"] == 0
    assert sqs.state("emails")["visible"] == 20
    assert "worker: Warm shutdown (MainProcess)" in worker.log


def test_a_second_sigterm_stops_running_tasks_and_their_messages_go_back(sqs, held_up):
    worker = held_up()
    worker.send_signal(signal.SIGTERM)
    worker.wait_logged("Warm shutdown")

    worker.send_signal(signal.SIGTERM)

    assert worker.wait(15) == 0
    worker.check_nobody_left()
    assert sqs.state("emails") == {"visible": 22, "inflight": 0, "delayed": 0, "waiters": 0}


def test_the_deadline_stops_what_does_not_end(sqs, held_up):
    worker = held_up("worker_shutdown_timeout=1")

    assert worker.stop(seconds=20) == 0

    assert sqs.state("emails") == {"visible": 22, "inflight": 0, "delayed": 0, "waiters": 0}


def test_sigquit_is_a_cold_shutdown_with_code_0(sqs, held_up):
    worker = held_up()

    assert worker.stop(signal.SIGQUIT, 15) == 0

    assert "worker: Cold shutdown (MainProcess)" in worker.log
    assert sqs.state("emails")["visible"] == 22


def test_sigquit_gives_running_tasks_the_soft_shutdown_timeout(sqs, held_up, gate):
    worker = held_up("worker_soft_shutdown_timeout=20")

    worker.send_signal(signal.SIGQUIT)
    until(lambda: sqs.state("emails")["visible"] == 20, "unstarted messages are visible", 10)
    open_gate(gate)

    assert worker.wait(15) == 0
    assert sorted(worker.diary.count("end")) == [0, 1]
    worker.check_nobody_left()


def test_remap_sigterm_makes_sigterm_cold(sqs, start_worker, send, gate):
    sqs.create("emails")
    send("pass_gate", "emails", 0, str(gate))
    worker = start_worker("-Q", "emails", "-c", "1", REMAP_SIGTERM="SIGQUIT")
    worker.diary.wait("start", 1)

    assert worker.stop(signal.SIGTERM, 15) == 0

    assert "Cold shutdown" in worker.log
    assert sqs.state("emails")["visible"] == 1


def test_ctrl_c_reaches_the_whole_group_and_ends_with_code_1(sqs, held_up, gate):
    worker = held_up()

    os.killpg(worker.session, signal.SIGINT)
    worker.wait_logged("Hitting Ctrl+C again will initiate cold shutdown")
    open_gate(gate)

    assert worker.wait(20) == 1
    worker.check_nobody_left()
    assert sorted(worker.diary.count("end")) == [0, 1]


def test_ctrl_c_twice_is_cold(sqs, held_up):
    worker = held_up()
    os.killpg(worker.session, signal.SIGINT)
    worker.wait_logged("Warm shutdown")

    os.killpg(worker.session, signal.SIGINT)

    assert worker.wait(15) == 1
    worker.check_nobody_left()
    assert sqs.state("emails")["visible"] == 22


def test_usr1_prints_where_everybody_is(sqs, held_up, gate):
    worker = held_up()

    worker.send_signal(signal.SIGUSR1)

    worker.wait_logged("State: ")
    assert "'task': 'proj.pass_gate'" in worker.log
    worker.send_signal(signal.SIGTERM)
    worker.wait_logged("Warm shutdown")
    open_gate(gate)
    assert worker.wait() == 0


def test_a_stop_is_bounded_though_sqs_does_not_answer(sqs, held_up):
    worker = held_up("worker_shutdown_timeout=1")
    sqs.faults({"kind": "503"})
    began = time.monotonic()

    code = worker.stop(seconds=60)

    assert code == 0
    assert time.monotonic() - began < 25


def test_fifty_messages_run_once_though_the_worker_is_stopped_in_the_middle(sqs, start_worker, send, tmp_path):
    # given fifty messages, of which two run and ten are held
    sqs.create("emails")
    gate = tmp_path / "open"
    with send.app.publisher().batch():
        for number in range(50):
            send("wait_for", "emails", number, str(gate))
    worker = start_worker("-Q", "emails", "-c", "2", "--prefetch-multiplier", "5")
    worker.diary.wait("start", 2)
    until(lambda: sqs.state("emails")["inflight"] == 10, "ten messages are held")

    # when it is told to stop
    worker.send_signal(signal.SIGTERM)
    worker.wait_logged("Warm shutdown")

    # then within two seconds all that has not begun is there for others, and in the end everything has run once
    until(lambda: sqs.state("emails")["visible"] == 48, "all unstarted messages are visible", 2)
    gate.touch()
    assert worker.wait() == 0
    assert sqs.state("emails") == {"visible": 48, "inflight": 0, "delayed": 0, "waiters": 0}
    second = start_worker("-Q", "emails", "-c", "2")
    sqs.wait_empty("emails")
    assert second.diary.count("start") == second.diary.count("end") == dict.fromkeys(range(50), 1)
    assert second.stop() == 0


def test_a_message_that_an_open_poll_brings_after_sigterm_goes_back(sqs, start_worker, send):
    """The poll is not cut off: SQS might hand a message to a connection that is gone, and it would be hidden for a lease."""
    sqs.create("emails")
    conf = json.dumps({"broker_transport_options": {"wait_time_seconds": 6}})
    worker = start_worker("-Q", "emails", "-c", "2", PROJ_CONF=conf)
    worker.wait_ready()
    sqs.wait_polled("emails")

    worker.send_signal(signal.SIGTERM)
    worker.wait_logged("Warm shutdown")
    assert sqs.is_polled("emails")
    send("note", "emails", "late")

    assert worker.wait(20) == 0
    worker.check_nobody_left()
    assert sqs.state("emails") == {"visible": 1, "inflight": 0, "delayed": 0, "waiters": 0}
    assert not worker.diary.count("run")


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 1), (signal.SIGQUIT, 0)])
def test_a_worker_that_still_imports_its_application_ends_at_once(start_worker, signum, code):
    # given a worker whose application takes its time (pid 1 of a container would ignore a signal that nobody handles)
    worker = start_worker("-Q", "emails", app="waits")
    worker.diary.wait("importing", 1)

    # then it ends with the code that it has later, and without a traceback
    assert worker.stop(signum) == code
    assert "Traceback" not in worker.log
