"""Marks of revoked tasks in a result store: who writes them, who reads them, and what reading costs."""

from __future__ import annotations

import logging
import signal
import uuid

import pytest

from pyqs_celery import Celery, revocation
from pyqs_celery.backends.memory import MemoryBackend
from pyqs_celery.contrib.testing.app import TestApp
from pyqs_celery.contrib.testing.worker import start_worker
from pyqs_celery.exceptions import ControlUnavailable
from pyqs_celery.revocation import FLAG_SECONDS, REST_SECONDS, Revocations


class CountingStore(MemoryBackend):
    """Counts what is read; fails to be read if ``broken``."""

    broken = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.read = []

    def _get_task_meta_for(self, task_id):
        self.read.append(task_id)
        if self.broken:
            raise OSError("no route to the store")
        return super()._get_task_meta_for(task_id)


class Clock:
    now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def app():
    made = Celery(
        "revoking", broker="memory://revoking", backend=f"cache+memory://{uuid.uuid4().hex}", set_as_current=False
    )
    yield made
    made.close()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(app):
    return CountingStore(app, url=app.conf.result_backend)


@pytest.fixture
def worker(store, clock):
    """The marks as a worker's process sees them."""
    return Revocations(lambda: store, clock)


@pytest.fixture
def producer(app, clock):
    """The marks as another process writes them."""
    store = MemoryBackend(app, url=app.conf.result_backend)
    return Revocations(lambda: store, clock)


# -- looking before a start ----------------------------------------------------------------------------


def test_a_mark_is_seen_by_another_process(worker, producer, clock):
    producer.revoke(["a", "b"], terminate=False, signal_name="SIGTERM")

    assert worker.mark_of("a") == revocation.Mark(False, "SIGTERM", clock.now)
    assert worker.mark_of("b") is not None
    assert worker.mark_of("c") is None


def test_while_nobody_revokes_a_process_reads_once_a_second(worker, store, clock):
    for _ in range(100):
        worker.mark_of("a")
        clock.now += FLAG_SECONDS / 50

    assert store.read == ["revoked-latest"] * 2


def test_a_mark_is_seen_within_a_second(worker, producer, clock):
    assert worker.mark_of("a") is None
    producer.revoke(["a"], terminate=False, signal_name="SIGTERM")
    assert worker.mark_of("a") is None

    clock.now += FLAG_SECONDS

    assert worker.mark_of("a") is not None


def test_the_process_that_revokes_sees_its_own_mark_at_once(producer):
    assert producer.mark_of("a") is None
    producer.revoke(["a"], terminate=False, signal_name="SIGTERM")

    assert producer.mark_of("a") is not None


def test_once_all_marks_have_expired_they_are_not_looked_for(worker, producer, store, clock):
    producer.revoke(["a"], terminate=False, signal_name="SIGTERM")
    clock.now += 24 * 3600 - 1
    worker.mark_of("b")
    assert store.read == ["revoked-latest", "revoked-b"]

    clock.now += 2
    worker.mark_of("b")

    assert store.read == ["revoked-latest", "revoked-b", "revoked-latest"]


def test_where_results_never_expire_marks_do_not(app, worker, producer, store, clock):
    store.expires = None
    producer.revoke(["a"], terminate=False, signal_name="SIGTERM")

    clock.now += 1000 * 24 * 3600

    assert worker.mark_of("a") is not None


def test_a_store_that_cannot_be_read_revokes_nothing_and_is_left_alone_for_a_while(
    worker, producer, store, clock, caplog
):
    producer.revoke(["a"], terminate=True, signal_name="SIGTERM")
    store.broken = True

    for _ in range(int(REST_SECONDS) * 3):
        assert worker.mark_of("a") is None
        assert worker.to_terminate(["a"]) == {}
        clock.now += 1

    assert len(store.read) == 3
    [said] = caplog.messages
    assert "no route to the store" in said
    store.broken = False
    assert worker.mark_of("a") is not None


@pytest.mark.parametrize("odd", [None, "text", [], {}, {"at": "noon"}, {"terminate": True}])
def test_what_is_no_mark_revokes_nothing(worker, producer, store, clock, odd):
    producer.revoke(["b"], terminate=True, signal_name="SIGTERM")
    store.store_result("revoked-a", odd, revocation.STATE)

    assert worker.mark_of("a") is None
    assert worker.to_terminate(["a"]) == {}


def test_a_task_that_is_called_like_a_mark_is_none(worker, producer, store):
    producer.revoke(["b"], terminate=False, signal_name="SIGTERM")
    store.store_result("revoked-a", {"at": 1.0}, "SUCCESS")

    assert worker.mark_of("a") is None


# -- looking while tasks run ---------------------------------------------------------------------------


def test_only_those_that_are_to_be_ended_are_found(worker, producer, clock):
    producer.revoke(["discarded"], terminate=False, signal_name="SIGTERM")
    producer.revoke(["ended"], terminate=True, signal_name="SIGKILL")

    assert worker.to_terminate(["discarded", "ended", "other"]) == {
        "ended": revocation.Mark(True, "SIGKILL", clock.now)
    }


def test_while_nobody_terminates_one_flag_is_read(worker, producer, store):
    producer.revoke(["discarded"], terminate=False, signal_name="SIGTERM")

    assert worker.to_terminate(["discarded", "other"]) == {}
    assert store.read == ["revoked-latest-terminate"]


def test_a_later_revocation_hides_no_earlier_termination(worker, producer, clock):
    producer.revoke(["ended"], terminate=True, signal_name="SIGTERM")
    clock.now += 10
    producer.revoke(["discarded"], terminate=False, signal_name="SIGTERM")

    assert list(worker.to_terminate(["ended"])) == ["ended"]


# -- signals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["SIGKILL", "KILL", "kill", 9, signal.SIGKILL])
def test_a_signal_may_be_given_in_any_way(given):
    assert revocation.signal_called(given) == "SIGKILL"


def test_none_is_sigterm():
    assert revocation.signal_called(None) == "SIGTERM"


@pytest.mark.parametrize("wrong", ["SIGNONSENSE", "", 0, 1234])
def test_a_signal_that_does_not_exist_is_refused(wrong):
    with pytest.raises(ValueError, match=r"signal|Signals"):
        revocation.signal_called(wrong)


def test_a_mark_with_a_signal_of_another_system_means_sigterm():
    assert revocation.Mark(True, "SIGBREAK", 0.0).signum == signal.SIGTERM


# -- app.control ---------------------------------------------------------------------------------------


def test_revoke_marks_one_task_or_many(app):
    app.control.revoke("a")
    app.control.revoke(["b", app.AsyncResult("c")], terminate=True, signal="KILL", destination=["w@h"])
    app.control.terminate("d")

    marks = {task_id: revocation.mark_of(app, task_id) for task_id in "abcde"}
    assert {task_id: mark and (mark.terminate, mark.signal) for task_id, mark in marks.items()} == {
        "a": (False, "SIGTERM"),
        "b": (True, "SIGKILL"),
        "c": (True, "SIGKILL"),
        "d": (True, "SIGTERM"),
        "e": None,
    }


def test_a_reply_is_given_to_whoever_wants_one(app):
    assert app.control.revoke("a") is None
    assert app.control.revoke(["a", "b"], reply=True) == [{"result_backend": {"ok": "tasks a, b flagged as revoked"}}]


def test_results_revoke_themselves(app):
    app.AsyncResult("a").revoke(terminate=True, signal="SIGINT")

    assert revocation.mark_of(app, "a").signal == "SIGINT"


def test_without_a_result_store_a_revocation_is_refused_and_no_task_is_asked_about():
    bare = Celery("bare", broker="memory://bare", set_as_current=False)

    for ask in (bare.control.revoke, bare.control.terminate):
        with pytest.raises(ControlUnavailable, match="result_backend"):
            ask("a")
    assert revocation.mark_of(bare, "a") is None


def test_a_wrong_signal_is_told_to_the_caller(app):
    with pytest.raises(ValueError, match="SIGNONE"):
        app.control.revoke("a", terminate=True, signal="SIGNONE")
    assert revocation.mark_of(app, "a") is None


# -- a worker ------------------------------------------------------------------------------------------


def test_a_worker_discards_what_was_revoked(caplog):
    app = TestApp()
    ran = []
    task = app.task(name="job")(ran.append)
    bad, good = task.delay("bad"), task.delay("good")
    bad.revoke()

    with caplog.at_level(logging.INFO), start_worker(app):
        good.get(timeout=10)
        bad.get(timeout=10, propagate=False)

    assert ran == ["good"]
    assert bad.state == "REVOKED"
    assert f"Discarding revoked task: job[{bad.id}]" in caplog.messages
    app.close()
