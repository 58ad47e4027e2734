"""Producers: what a send costs in requests, and threads, forks and greenlets that send with one application."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from pyqs_celery import group, wire
from pyqs_celery.app.config import Settings
from pyqs_celery.local_proxy import Proxy

pytestmark = pytest.mark.processes
ROOT = Path(__file__).parents[2]


@pytest.fixture
def app(sqs, send):
    sqs.create("celery")
    return send.app


@pytest.fixture
def note(app):
    @app.task(name="proj.note")
    def note(number, more=None):
        return number

    return note


class Spent:
    """The requests that a server has counted since this was made."""

    def __init__(self, sqs):
        self._sqs = sqs
        self._before = Counter(sqs.requests())

    def __call__(self):
        return dict(Counter(self._sqs.requests()) - self._before)


def messages(sqs, queue="celery"):
    """All that wait, decoded."""
    url, found = sqs.url(queue), []
    boto = sqs.client._client()
    while True:
        answer = boto.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=60)
        if not answer.get("Messages"):
            return found
        found.extend(wire.decode(each) for each in answer["Messages"])


def in_child(work):
    """Run ``work`` in a child that is forked here, and fail if it does."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_thousand_calls_in_a_group_cost_a_hundred_sends_and_one_look_up(sqs, note):
    spent = Spent(sqs)

    group(note.s(each) for each in range(1000)).apply_async()

    assert spent() == {"GetQueueUrl": 1, "SendMessageBatch": 100}
    assert sqs.left("celery") == 1000


def test_a_send_costs_a_request_and_the_queue_is_looked_up_once(sqs, note):
    spent = Spent(sqs)

    for each in range(20):
        note.delay(each)

    assert spent() == {"GetQueueUrl": 1, "SendMessage": 20}


def test_a_block_of_calls_goes_in_tens_whatever_calls_they_are(sqs, app, note):
    note.delay(0)
    spent = Spent(sqs)

    with app.batch():
        results = [note.delay(each) for each in range(10)]
        results += [note.apply_async((each,), countdown=5) for each in range(5)]
        app.send_task("proj.elsewhere", (1,))
        (note.si(1) | note.si(2)).delay()
        group(note.s(each) for each in range(3)).apply_async()
        assert spent() == {}

    assert spent() == {"SendMessageBatch": 2}
    assert len({result.id for result in results}) == 15
    assert sqs.left("celery") == 21


def test_chunks_go_in_tens_and_a_map_or_starmap_is_one_message(sqs, note):
    note.delay(0)
    spent = Spent(sqs)

    note.chunks([(each,) for each in range(1000)], 10).apply_async()
    assert spent() == {"SendMessageBatch": 10}

    note.starmap([(each, 1) for each in range(1000)]).apply_async()
    note.map(range(1000)).apply_async()
    assert spent() == {"SendMessageBatch": 10, "SendMessage": 2}
    assert sqs.left("celery") == 1 + 100 + 2


def test_threads_that_send_at_once_lose_and_repeat_nothing(sqs, app, note):
    start = threading.Barrier(8)
    results = []

    def work(number):
        start.wait(30)
        results.extend(note.delay(number * 100 + each) for each in range(15))
        with app.batch():
            results.extend(note.delay(number * 100 + 50 + each) for each in range(20))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    spent = Spent(sqs)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)

    requests = spent()
    found = messages(sqs)
    assert sorted(message.id for message in found) == sorted(result.id for result in results)
    assert len({message.args[0] for message in found}) == len(found) == 8 * 35
    assert (requests["SendMessage"], requests["SendMessageBatch"]) == (8 * 15, 8 * 2)
    assert requests["GetQueueUrl"] <= 8


def test_a_forked_process_sends_on_its_own_while_its_parent_goes_on(sqs, note):
    note.delay(0)

    in_child(lambda: [note.delay(each) for each in range(1, 6)])
    for each in range(6, 11):
        note.delay(each)

    found = messages(sqs)
    assert sorted(message.args[0] for message in found) == list(range(11))
    own = {message.args[0] for message in found if message.origin.startswith(f"gen{os.getpid()}@")}
    assert own == {0, *range(6, 11)}
    assert len({message.reply_to for message in found}) == 2


def test_a_process_forked_while_another_thread_sends_can_send(sqs, note):
    """Given a thread in the middle of a send, a child has none of the locks and connections that it holds.

    Not of a first send: Python itself has no way out for a child of a process that was importing in another thread.
    """
    over = threading.Event()
    sent = [note.delay(0)]

    def work():
        while not over.is_set():
            sent.append(note.delay(len(sent)))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for each in range(5):
            in_child(lambda each=each: note.delay(1000 + each))
    finally:
        over.set()
        thread.join(120)

    numbers = sorted(message.args[0] for message in messages(sqs))
    assert numbers == [*range(len(sent)), *range(1000, 1005)]


def test_a_process_forked_while_another_thread_reads_the_settings_reads_them_itself():
    parent, reading, over = os.getpid(), threading.Event(), threading.Event()

    def load():
        if os.getpid() == parent:
            reading.set()
            over.wait(60)
        return {"task_default_queue": "emails"}

    settings = Settings(load, {})
    thread = threading.Thread(target=lambda: settings.task_default_queue)
    thread.start()
    assert reading.wait(30)

    def child():
        signal.alarm(20)
        assert settings.task_default_queue == "emails"

    try:
        in_child(child)
    finally:
        over.set()
        thread.join(30)


def test_a_process_forked_while_another_thread_finalises_finalises_itself(app):
    parent, inside, over = os.getpid(), threading.Event(), threading.Event()

    def declared():
        if os.getpid() == parent:
            inside.set()
            over.wait(60)
        return app.task(name="proj.late", lazy=False)(lambda: None)

    app._pending.append(Proxy(declared, once=True))
    thread = threading.Thread(target=app.finalize)
    thread.start()
    assert inside.wait(30)

    def child():
        signal.alarm(20)
        assert "celery.chain" in app.tasks

    try:
        in_child(child)
    finally:
        over.set()
        thread.join(30)


def test_a_process_forked_inside_a_block_sends_at_once_and_nothing_of_its_parents(sqs, app, note):
    pid, code = -1, 1
    try:
        with app.batch():
            note.delay("parent")
            pid = os.fork()
            if pid == 0:
                note.delay("child")
        code = 0
    finally:
        if pid == 0:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    assert sorted(message.args[0] for message in messages(sqs)) == ["child", "parent"]


GREEN = """
from gevent import monkey
monkey.patch_all()
import gevent
from pyqs_celery import Celery

app = Celery("green", broker="sqs://")

@app.task(name="proj.note")
def note(number):
    pass

inside = most = 0

def send(number):
    global inside, most
    inside += 1
    most = max(most, inside)
    note.delay(number)
    inside -= 1

def send_many(first):
    with app.batch():
        for each in range(12):
            note.delay(first + each)
            gevent.sleep(0)

note.delay(0)
jobs = [gevent.spawn(send, number) for number in range(1, 31)] + [gevent.spawn(send_many, 100), gevent.spawn(send_many, 200)]
gevent.joinall(jobs, raise_error=True)
print(most)
"""


def test_greenlets_send_side_by_side_and_each_gathers_its_own(sqs):
    pytest.importorskip("gevent")
    sqs.create("celery")
    spent = Spent(sqs)

    ended = subprocess.run(
        [sys.executable, "-c", GREEN],
        env={**os.environ, **sqs.environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 1, "a send kept the other greenlets from running"
    numbers = sorted(message.args[0] for message in messages(sqs))
    assert numbers == [*range(31), *range(100, 112), *range(200, 212)]
    assert spent()["SendMessageBatch"] == 4
