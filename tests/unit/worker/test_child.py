"""A child's loop over a real socket pair: what it is given, what it reports."""

from __future__ import annotations

import base64
import json
import pickle
import socket
import threading
import time
import uuid
from datetime import datetime, timedelta, timezone

import pytest

from pyqs_celery import Celery, events
from pyqs_celery.wire.envelope import decode_head, head_to_plain
from pyqs_celery.worker.channel import ChildEnd, ConsumerEnd, FrameError, FrameReader, framed, outcome_from_json
from pyqs_celery.worker.child import ChildLoop
from pyqs_celery.worker.config import WorkerConfig
from tests.support.waiting import until

LAMENT = {"task": "t.lament", "args": [], "kwargs": {}, "options": {}, "subtask_type": None, "immutable": False}
FACTS = {
    "message_id": "m1",
    "receive_count": 1,
    "logical": "q",
    "fetch_time": 12.5,
    "queue_url": "http://sqs/q",
    "timeout": 30,
    "receipt_handle": "r1",
}


@pytest.fixture
def app():
    made = Celery("child", broker=f"memory://{uuid.uuid4().hex}", set_as_current=False)
    made.conf.accept_content = ["json", "pickle"]

    @made.task(name="t.add")
    def add(x, y=0):
        return x + y

    @made.task(name="t.fail")
    def fail():
        raise KeyError("k")

    yield made
    made.close()
    events.clear_events()


@pytest.fixture
def ask(app):
    """``ask(body)`` runs one message in a child and gives the outcome."""
    ours, theirs = socket.socketpair()
    config = WorkerConfig(hostname="w@h", import_patterns=("statistics", "statistics.*"))
    loop = ChildLoop(app, config, ChildEnd(theirs), is_process=False)
    thread = threading.Thread(target=loop.run)
    thread.start()
    end = ConsumerEnd(ours)
    frames = []

    def next_frame():
        until(lambda: frames or frames.extend(end.read() or []) or frames, "the child speaks")
        return frames.pop(0)

    assert next_frame() == {"ready": True}

    def ask_one(body, fault=None, **facts):
        assert end.give((head_to_plain(decode_head(body)), {**FACTS, **facts}, False, False, None, fault))
        while end.is_sending:
            assert end.push()
        return outcome_from_json(next_frame()["outcome"])

    yield ask_one
    end.close()
    thread.join(10)
    theirs.close()
    assert not thread.is_alive()


def celery_message(task, *args, **headers):
    body = base64.b64encode(json.dumps([args, {}, {}]).encode()).decode()
    return json.dumps(
        {
            "body": body,
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {"task": task, "id": "id-1", **headers},
            "properties": {"body_encoding": "base64"},
        }
    )


def sealed_message(**fields):
    """Protocol 1 in pickle: its head is inside the body, so only a child may read it."""
    call = {"task": "t.add", "id": "id-2", "args": [1], "kwargs": {"y": 2}, **fields}
    return json.dumps(
        {
            "body": base64.b64encode(pickle.dumps(call)).decode(),
            "content-type": "application/x-python-serialize",
            "content-encoding": "binary",
            "headers": {},
            "properties": {"body_encoding": "base64"},
        }
    )


def pyqs_message(path, *args):
    return json.dumps({"task": path, "args": args, "kwargs": {}})


def test_a_task_runs_and_its_value_stays_in_the_child(ask):
    outcome = ask(celery_message("t.add", 1, 2))

    assert (outcome.kind, outcome.task, outcome.task_id) == ("succeeded", "t.add", "id-1")


def test_a_large_message_passes(ask):
    assert ask(celery_message("t.add", "x" * 700_000, "y")).kind == "succeeded"


def test_arguments_that_do_not_fit_are_the_tasks_failure(ask):
    outcome = ask(celery_message("t.add"))

    assert (outcome.kind, outcome.exception) == ("failed", "TypeError")


def test_a_sealed_message_is_opened_and_decided_here(ask):
    assert ask(sealed_message()).kind == "succeeded"
    assert ask(sealed_message(task="not.mine")).kind == "unknown"
    past = (datetime.now(timezone.utc) - timedelta(hours=1)).isoformat()
    assert ask(sealed_message(expires=past)).kind == "expired"
    due = time.time() + 3600
    later = ask(sealed_message(eta=datetime.fromtimestamp(due, timezone.utc).isoformat()))
    assert later.kind == "deferred"
    assert later.eta == pytest.approx(due, abs=1)


def test_what_cannot_be_opened_is_told(ask, app):
    app.conf.accept_content = ["json"]
    refused = ask(sealed_message())

    assert refused.kind == "undecodable"
    assert refused.reason.startswith("disallowed")


def test_only_modules_the_worker_was_started_with_are_imported_and_only_tasks_run(ask):
    assert ask(pyqs_message("statistics.mean", [1, 2])).kind == "unknown"
    assert ask(pyqs_message("os.system", "true")).kind == "unknown"


def test_a_death_is_recorded_in_place_of_a_run(ask, app):
    heard = []
    events.register_event("pre_process", heard.append)

    outcome = ask(celery_message("t.add", 1, 2), fault=("WorkerLostError", "signal 9 (SIGKILL)"))

    assert (outcome.kind, outcome.exception) == ("failed", "WorkerLostError")
    assert outcome.reason.count("Worker exited prematurely: signal 9 (SIGKILL) Task: t.add[id-1].") == 1
    assert heard == []


def test_a_death_is_recorded_whatever_the_time(ask):
    past = (datetime.now(timezone.utc) - timedelta(hours=1)).isoformat()

    outcome = ask(sealed_message(expires=past), fault=("TimeLimitExceeded", "10"))

    assert (outcome.kind, outcome.exception) == ("failed", "TimeLimitExceeded")


@pytest.mark.parametrize(
    ("setting", "final"), [(None, False), ("task_acks_on_failure", True), ("task_acks_late", True)]
)
def test_whether_a_failure_of_a_sealed_message_is_final_is_decided_here(ask, app, setting, final):
    called = []
    app.task(name="t.lament")(lambda request, exc, traceback: called.append(request.id))
    if setting:
        app.conf[setting] = setting != "task_acks_late"

    outcome = ask(sealed_message(task="t.fail", args=[], kwargs={}, errbacks=[LAMENT]))

    assert outcome.kind == "failed"
    assert called == (["id-2"] if final else [])


def test_a_child_knows_a_signal_that_is_meant_for_it():
    ours, theirs = socket.socketpair()
    consumer, child = ConsumerEnd(ours), ChildEnd(theirs)
    assert not child.is_addressed()
    consumer.give(("work",))
    assert child.next_work() == ("work",)
    assert not child.is_addressed()

    consumer.announce_end()

    assert child.is_addressed()
    assert child.next_work() == ()
    consumer.close()
    assert not child.is_addressed()  # the consumer is gone: what runs may finish
    child.close()


def test_pyqs_hooks_get_pyqs_keys(ask):
    heard = []
    events.register_event("pre_process", lambda context: heard.append(("pre", context)))
    events.register_event("post_process", lambda context: heard.append(("post", context)))
    events.register_event("post_process", lambda context: 1 / 0)

    assert ask(celery_message("t.add", 1, 2)).kind == "succeeded"
    assert ask(celery_message("t.fail")).kind == "failed"

    context = {
        "message_id": "m1",
        "task_name": "add",
        "args": [1, 2],
        "kwargs": {},
        "full_task_path": "t.add",
        "fetch_time": 12.5,
        "queue_url": "http://sqs/q",
        "timeout": 30,
        "receipt_handle": "r1",
    }
    assert heard[0] == ("pre", context)
    assert heard[1] == ("post", {**context, "status": "success"})
    assert heard[3][1]["status"] == "exception"
    assert "KeyError" in heard[3][1]["exception"]


def test_frames_may_come_in_any_pieces():
    reader, data = FrameReader(), framed(b"one") + framed(b"") + framed(b"three" * 1000)

    found = [frame for start in range(0, len(data), 7) for frame in reader.feed(data[start : start + 7])]

    assert found == [b"one", b"", b"three" * 1000]


def test_a_frame_of_absurd_length_is_refused():
    with pytest.raises(FrameError):
        FrameReader().feed(b"\xff\xff\xff\xff")


def test_work_of_a_consumer_that_has_gone_is_not_begun():
    # given two pieces of work on their way to a child that has not looked yet
    ours, theirs = socket.socketpair()
    consumer, child = ConsumerEnd(ours), ChildEnd(theirs)
    assert consumer.give(("first",))
    assert child.next_work() == ("first",)
    assert consumer.give(("second",))

    # when the consumer is gone before it does
    consumer.close()

    # then it is told to leave, and the message comes back when its lease ends
    assert child.next_work() is None
    theirs.close()
