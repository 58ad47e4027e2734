"""Revoked tasks: marks in a result store that producer and worker share, and real processes that are ended."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support.waiting import until

pytestmark = pytest.mark.processes


@pytest.fixture
def store(tmp_path, send):
    """The URL of a result store, which the sender uses as well."""
    folder = tmp_path / "results"
    folder.mkdir()
    url = send.app.conf.result_backend = f"file://{folder}"
    return url


@pytest.fixture
def gate(tmp_path):
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


@pytest.fixture
def start(sqs, start_worker, store):
    """``start("-c", "2")`` starts a worker of the queue emails with that store."""
    sqs.create("emails", VisibilityTimeout=60)
    return lambda *arguments: start_worker("-Q", "emails", f"result_backend={store}", *arguments)


def told(worker):
    """What receivers of task_revoked were given."""
    return [entry for entry in worker.diary.entries() if entry["key"] == "task_revoked"]


def state_of(send, sent):
    return send.app.backend.get_task_meta(sent.id, cache=False)["status"]


def test_a_task_that_was_revoked_is_not_started(sqs, start, send):
    # given three tasks, two of which are revoked before a worker comes
    bad, worse, good = (send("note", "emails", key) for key in ("bad", "worse", "good"))
    send.app.control.revoke([bad.id, worse.id])

    worker = start("-c", "1")

    # then only the third one runs, the others are discarded, and that is told
    sqs.wait_empty("emails")
    assert worker.diary.count("run") == {"good": 1}
    assert {state_of(send, each) for each in (bad, worse)} == {"REVOKED"}
    assert f"Discarding revoked task: proj.note[{bad.id}]" in worker.log
    assert {entry["id"] for entry in told(worker)} == {bad.id, worse.id}
    assert {(entry["terminated"], entry["signum"], entry["expired"]) for entry in told(worker)} == {
        (False, None, False)
    }
    assert state_of(send, good) == "SUCCESS"
    assert worker.stop() == 0


def test_a_task_that_runs_is_ended_by_the_signal(sqs, start, send, gate):
    # given a task that waits for ever
    worker = start("-c", "1")
    sent = send("pass_gate", "emails", "stuck", str(gate))
    worker.diary.wait("start", 1)

    send.app.control.revoke(sent.id, terminate=True)

    # then its process ends, its message is deleted, and a new process goes on
    worker.wait_logged(f"Terminating {sent.id} (Signals.SIGTERM)")
    sqs.wait_empty("emails")
    until(lambda: state_of(send, sent) == "REVOKED", "it is revoked")
    send("note", "emails", "next")
    worker.diary.wait("run", 1)
    assert [(entry["terminated"], entry["signum"]) for entry in told(worker)] == [(True, signal.SIGTERM)]
    assert worker.stop() == 0
    assert "exited with" not in worker.log
    assert not worker.diary.count("end")


def test_terminate_may_name_another_signal(sqs, start, send, gate):
    worker = start("-c", "1")
    sent = send("pass_gate", "emails", "stuck", str(gate))
    worker.diary.wait("start", 1)

    send.app.control.terminate(sent.id, signal="KILL")

    worker.wait_logged(f"Terminating {sent.id} (Signals.SIGKILL)")
    sqs.wait_empty("emails")
    assert worker.stop() == 0


def test_a_task_may_clear_up_when_it_is_terminated(sqs, start, send, gate):
    worker = start("-c", "1")
    sent = send("clear_up_on_sigterm", "emails", "tidy", str(gate))
    worker.diary.wait("start", 1)

    send.app.control.terminate([sent.id])

    worker.diary.wait("cleared", 1)
    sqs.wait_empty("emails")
    until(lambda: state_of(send, sent) == "REVOKED", "it is revoked")
    assert worker.stop() == 0


def test_a_task_that_withstands_the_signal_is_killed(sqs, start, send, gate):
    worker = start("-c", "1")
    sent = send("withstand_sigterm", "emails", "stubborn", str(gate))
    worker.diary.wait("start", 1)

    send.app.control.terminate(sent.id)

    sqs.wait_empty("emails")
    until(lambda: state_of(send, sent) == "REVOKED", "it is revoked")
    assert worker.stop() == 0


def test_a_signal_to_the_whole_group_ends_no_task(sqs, start, send, gate):
    """As supervisors send it at a stop: the manager decides, and what runs may finish."""
    worker = start("-c", "1")
    send("pass_gate", "emails", "runs", str(gate))
    worker.diary.wait("start", 1)

    os.killpg(worker.process.pid, signal.SIGTERM)
    worker.wait_logged("Warm shutdown")
    gate.write_text("")

    assert worker.wait() == 0
    assert worker.diary.count("end") == {"runs": 1}
    sqs.wait_empty("emails")


def test_in_a_pool_of_threads_a_running_task_goes_on_and_that_is_said_once(sqs, start, send, gate):
    worker = start("-c", "1", "-P", "threads")
    sent = send("pass_gate", "emails", "runs", str(gate))
    worker.diary.wait("start", 1)

    send.app.control.revoke(sent.id, terminate=True)

    worker.wait_logged("which only -P prefork can do")
    gate.write_text("")
    worker.diary.wait("end", 1)
    until(lambda: state_of(send, sent) == "SUCCESS", "it has succeeded")
    assert worker.log.count("only -P prefork") == 1
    assert worker.stop() == 0


def test_what_has_expired_is_revoked_in_the_store(sqs, start, send):
    sent = send("note", "emails", "late", expires=-5)

    worker = start("-c", "1")

    sqs.wait_empty("emails")
    assert state_of(send, sent) == "REVOKED"
    assert [(entry["id"], entry["expired"]) for entry in told(worker)] == [(sent.id, True)]
    assert worker.stop() == 0
    assert not worker.diary.count("run")


def test_without_a_store_that_can_be_read_tasks_run(sqs, start_worker, send):
    sqs.create("emails")
    send("note", "emails", "runs")

    worker = start_worker("-Q", "emails", "-c", "1", "task_ignore_result=true", "result_backend=proj:BrokenBackend")

    worker.diary.wait("run", 1)
    sqs.wait_empty("emails")
    worker.wait_logged("The result store cannot be read, so revoked tasks are run: OSError: no route to the store")
    assert worker.stop() == 0
