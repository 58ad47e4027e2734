"""Sending: bounded in time when SQS is away, and safe from many threads of many processes."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections import Counter
from contextlib import contextmanager
from functools import partial

import pytest

from pyqs_celery import Celery
from pyqs_celery.exceptions import OperationalError
from tests.support.proc import descriptors
from tests.support.tls_front import TlsFront
from tests.support.waiting import until

LONG = bool(os.environ.get("PYQS_CELERY_LONG"))
pytestmark = [pytest.mark.processes, pytest.mark.slow]


@pytest.fixture(params=["http", "https"])
def endpoint(request, sqs, tmp_path, monkeypatch):
    """Where SQS is, as it is and by TLS; the environment says so too, and whose certificate to trust."""
    if request.param == "http":
        yield sqs.endpoint
        return
    front = TlsFront(sqs, tmp_path / "tls")
    for name, value in front.environment.items():
        monkeypatch.setenv(name, value)
    yield front.endpoint
    front.close()


@contextmanager
def producer(endpoint, **settings):
    """An application that sends to an endpoint."""
    app = Celery("producer", broker="sqs://test:test@", set_as_current=False, **settings)
    app.conf.broker_transport_options = {"region": "us-east-1", "endpoint_url": endpoint}
    try:
        yield app
    finally:
        app.close()


@contextmanager
def black_hole():
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def seconds_of(call):
    began = time.monotonic()
    with pytest.raises(OperationalError):
        call()
    return time.monotonic() - began


def delay(app, **options):
    return app.send_task("proj.note", (1,), queue="emails", **options)


@pytest.mark.parametrize("hole", ["silent", "refusing", "failing"])
def test_a_send_gives_up_in_time(sqs, hole):
    # given an endpoint that does not answer, refuses connections, or answers every request with an error
    with black_hole() as silent:
        sqs.faults({"kind": "503"})
        with socket.create_server(("127.0.0.1", 0)) as closed:
            refusing = f"http://127.0.0.1:{closed.getsockname()[1]}"
        endpoint = {"silent": silent, "refusing": refusing, "failing": sqs.endpoint}[hole]

        # when a task is sent
        with producer(endpoint) as app:
            app.publisher().client._client()  # the application has sent before
            took = seconds_of(lambda: delay(app))

    # then that ends with Celery's error after about ten seconds
    assert 3.0 < took < 11.0, took


def test_many_threads_give_up_in_time_too():
    with black_hole() as endpoint, producer(endpoint) as app:
        app.publisher().client._client()
        took = []
        threads = [threading.Thread(target=lambda: took.append(seconds_of(lambda: delay(app)))) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

    assert len(took) == 20
    assert max(took) < 13.0


def test_the_time_of_a_send_is_a_setting_and_retry_false_means_one_attempt():
    with black_hole() as endpoint, producer(endpoint, sqs_publish_timeout=4.0) as app:
        app.publisher().client._client()
        assert seconds_of(lambda: delay(app)) < 5.5

    with socket.create_server(("127.0.0.1", 0)) as closed:
        refusing = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with producer(refusing) as app:
        app.publisher().client._client()
        assert seconds_of(lambda: delay(app, retry=False)) < 1.0
        assert seconds_of(lambda: delay(app, retry_policy={"max_retries": 2})) < 3.0


@pytest.mark.parametrize("queue", ["emails", "emails.fifo"])
@pytest.mark.parametrize("trouble", ["timeout", "reset", "503"])
def test_a_send_survives_an_outage_of_four_seconds(sqs, queue, trouble):
    # given a producer that has sent before, and SQS away for four seconds
    sqs.create(queue)
    with producer(sqs.endpoint) as app:
        app.send_task("proj.note", ("before",), queue=queue)
        sqs.faults({"kind": trouble, "seconds": 4})

        # when a task is sent
        began = time.monotonic()
        app.send_task("proj.note", ("during",), queue=queue, task_id="the-one")

    # then it is on its queue, once
    assert time.monotonic() - began < 11.0
    assert ids_of(sqs, queue).count("the-one") == 1


def ids_of(sqs, queue):
    from pyqs_celery.wire.envelope import decode_head

    return [decode_head(body).id for body in sqs.bodies(queue)]


def test_an_answer_that_was_lost_is_sent_again_as_the_same_message(sqs):
    # given a FIFO queue, and a server whose answers are lost twice after it has done the work
    sqs.create("emails.fifo")
    sqs.create("emails")
    with producer(sqs.endpoint) as app:
        for queue in ("emails.fifo", "emails"):
            app.send_task("proj.note", ("before",), queue=queue)
            sqs.faults({"kind": "reset_after", "action": "SendMessage", "count": 2})
            app.send_task("proj.note", ("during",), queue=queue, task_id="the-one")

    # then SQS drops the copies by their deduplication id, and on a standard queue all are the same task
    assert ids_of(sqs, "emails.fifo").count("the-one") == 1
    assert ids_of(sqs, "emails").count("the-one") == 3


THREADS = 8
PROCESSES = 8


def publish_until(app, until_when, name, report):
    """Send from eight threads, and tell which message id each body got."""
    sent, errors = {}, []

    def run(number):
        count = 0
        while time.monotonic() < until_when:
            key = f"{name}-{number}-{count}"
            try:
                sent[key] = send_one(app, key)
            except Exception as exc:  # noqa: BLE001 - whatever it is, it is told
                errors.append(repr(exc))
                return
            count += 1

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    half = (until_when - time.monotonic()) / 2
    threads[0].join(half)
    before = descriptors(os.getpid())
    for thread in threads:
        thread.join()
    report({"sent": sent, "errors": errors, "descriptors": (before, descriptors(os.getpid()))})


def write_json(path, found):
    path.write_text(json.dumps(found))


def send_one(app, key):
    from pyqs_celery.broker.delivery import Outgoing

    return app.publisher().send(Outgoing("shared", key))


@pytest.mark.timeout(600 if LONG else 120)
def test_forked_children_and_their_threads_share_nothing(sqs, endpoint, tmp_path):
    # given a parent that sends from threads of its own while it forks, as a preloaded gunicorn may
    sqs.create("shared")
    seconds = 300 if LONG else 8
    with producer(endpoint) as app:
        send_one(app, "parent-first")
        until_when = time.monotonic() + seconds
        reports = [tmp_path / f"report-{number}" for number in range(PROCESSES)]
        mine = {}
        parent = threading.Thread(target=publish_until, args=(app, until_when, "parent", mine.update))
        parent.start()
        children = []
        for number, path in enumerate(reports):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    publish_until(app, until_when, f"child{number}", partial(write_json, path))
                    code = 0
                finally:
                    os._exit(code)
            children.append(pid)

        # when all of them have sent for a while
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
        parent.join(30)

    # then none met an error, and every answer was for the message it was the answer to
    assert codes == [0] * PROCESSES
    found = [mine, *(json.loads(path.read_text()) for path in reports)]
    assert [each["errors"] for each in found] == [[]] * len(found)
    told = {key: message_id for each in found for key, message_id in each["sent"].items()}
    there = messages(sqs, "shared")
    print(f"{len(told)} messages from {len(found)} processes in {seconds} s")
    assert {key: there[key] for key in told} == told
    assert Counter(told.values()).most_common(1)[0][1] == 1
    assert len(there) == len(told) + 1

    # and each process used a connection for a thread, from its beginning to its end
    for each in found:
        before, after = each["descriptors"]
        assert abs(after - before) <= THREADS, each["descriptors"]


def messages(sqs, queue):
    """Message ids by body."""
    page = sqs.ask("peek", queue=queue, n=10_000_000)
    return dict(zip(page["bodies"], page["ids"], strict=True))


def test_a_worker_forked_from_a_process_that_has_sent_runs_what_it_sends(sqs, endpoint, start_worker, send):
    # given tasks that send tasks, in four children of one worker
    sqs.create("emails")
    worker = start_worker("-Q", "emails", "-c", "4", "-l", "WARNING", AWS_ENDPOINT_URL_SQS=endpoint)

    with send.app.publisher().batch():
        for number in range(200):
            send("pass_on", "emails", number, "emails")

    ran = worker.diary.wait("run", 200, 60)
    assert ran == dict.fromkeys(range(200), 1)
    until(lambda: sqs.left("emails") == 0, "nothing is left")
    assert worker.stop() == 0
