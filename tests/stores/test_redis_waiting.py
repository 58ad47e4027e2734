"""How ``get`` waits for results in Redis: it is told, it does not ask again and again."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pyqs_celery import Celery, states
from pyqs_celery.exceptions import BackendGetMetaError
from pyqs_celery.exceptions import TimeoutError as ResultTimeout
from tests.stores.contract import new_id
from tests.support.servers import RedisServer
from tests.support.waiting import until

IDLE_COMMANDS = {"info", "config|resetstat", "ping", "client|list", "client|kill", "pubsub|channels", "hello", "select"}


@pytest.fixture
def app(redis_server: RedisServer) -> Iterator[Any]:
    app = Celery("proj", broker="memory://waiting", backend=redis_server.empty(), set_as_current=False)
    yield app
    app.close()


@pytest.fixture
def backend(app: Any) -> Any:
    return app.backend


class Waiter(threading.Thread):
    """Waits for something in a thread, and tells when it has begun to."""

    def __init__(self, wait: Callable[..., Any], **options: Any) -> None:
        super().__init__()
        self.calls = 0
        self.begun = threading.Event()
        self.value: Any = None
        self.error: BaseException | None = None
        self._wait, self._options = wait, options
        self.start()

    def run(self) -> None:
        try:
            self.value = self._wait(**{"timeout": 30, "on_interval": self._called, **self._options})
        except Exception as exc:  # noqa: BLE001 - the test raises it
            self.error = exc
        self.begun.set()

    def _called(self) -> None:
        self.calls += 1
        self.begun.set()

    def ended(self) -> Any:
        self.join(40)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error
        return self.value


def waiting(wait: Callable[..., Any], **options: Any) -> Waiter:
    """A waiter that is subscribed by now."""
    waiter = Waiter(wait, **options)
    assert waiter.begun.wait(30)
    return waiter


def commands(backend: Any) -> dict[str, int]:
    """How often each command was called since the last ``forget_commands``."""
    found = backend.client.info("commandstats")
    counts = {name.removeprefix("cmdstat_"): each["calls"] for name, each in found.items()}
    return {name: count for name, count in counts.items() if name not in IDLE_COMMANDS and "setinfo" not in name}


def subscribers(backend: Any) -> list[dict[str, str]]:
    return list(backend.client.client_list(_type="pubsub"))


def test_waiting_for_three_seconds_takes_a_handful_of_commands(app, backend):
    backend.client.config_resetstat()
    calls = []

    with pytest.raises(ResultTimeout):
        app.AsyncResult(new_id()).get(timeout=3, interval=0.1, on_interval=lambda: calls.append(1))

    asked = commands(backend)
    assert sum(asked.values()) <= 5, asked
    assert 20 <= len(calls) <= 32


def test_a_result_that_is_there_takes_one_command(app, backend):
    task_id = new_id()
    backend.store_result(task_id, 1, states.SUCCESS)
    backend.client.config_resetstat()

    app.AsyncResult(task_id).get(timeout=5)

    assert commands(backend) == {"mget": 1}


def test_two_hundred_results_take_one_subscription_and_few_reads(app, backend):
    ids = [new_id() for _ in range(200)]
    for task_id in ids[:100]:
        backend.store_result(task_id, "early", states.SUCCESS)
    backend.client.config_resetstat()
    group = app.GroupResult(new_id(), [app.AsyncResult(task_id) for task_id in ids])

    waiter = waiting(group.join_native)
    for task_id in reversed(ids[100:]):
        backend.store_result(task_id, "late", states.SUCCESS)
    values = waiter.ended()

    asked = commands(backend)
    assert values == ["early"] * 100 + ["late"] * 100
    assert (asked["subscribe"], asked["mget"]) == (1, 2)


def test_all_threads_wait_on_one_connection(app, backend):
    ids = [new_id() for _ in range(20)]

    waiters = [waiting(app.AsyncResult(task_id).get) for task_id in ids]
    connections = len(subscribers(backend))
    for task_id in ids:
        backend.store_result(task_id, task_id, states.SUCCESS)

    assert connections == 1
    assert [waiter.ended() for waiter in waiters] == ids


def test_two_threads_wait_for_one_result(app, backend):
    task_id = new_id()

    waiters = [waiting(app.AsyncResult(task_id).get) for _ in range(2)]
    backend.store_result(task_id, "both", states.SUCCESS)

    assert [waiter.ended() for waiter in waiters] == ["both", "both"]


def test_nothing_stays_subscribed(app, backend):
    task_id = new_id()
    waiter = waiting(app.AsyncResult(task_id).get)
    backend.store_result(task_id, 1, states.SUCCESS)
    waiter.ended()
    with pytest.raises(ResultTimeout):
        app.AsyncResult(new_id()).get(timeout=0.05)
    abandoned = backend.get_many([new_id()], timeout=0.05)
    with pytest.raises(ResultTimeout):
        next(abandoned)
    abandoned.close()

    assert until(lambda: backend.client.pubsub_channels() == [], "no channel is subscribed")


def test_who_waits_for_one_result_leaves_the_other_waiting(app, backend):
    first, second = new_id(), new_id()
    waiters = [waiting(app.AsyncResult(task_id).get) for task_id in (first, second)]

    backend.store_result(first, 1, states.SUCCESS)
    assert waiters[0].ended() == 1
    backend.store_result(second, 2, states.SUCCESS)

    assert waiters[1].ended() == 2


def test_a_connection_that_breaks_is_made_again_and_nothing_is_missed(app, backend):
    task_id = new_id()
    waiter = waiting(app.AsyncResult(task_id).get)

    # what is stored while nobody hears is found after the next subscription
    backend.client.set(backend.get_key_for_task(task_id), backend.encode(document(task_id, 7)))
    backend.client.client_kill_filter(_type="pubsub")

    assert waiter.ended() == 7


def test_a_message_that_was_lost_is_made_up_for(app, backend):
    task_id = new_id()
    begun = time.monotonic()
    backend.clock = lambda: begun + (time.monotonic() - begun) * 20
    waiter = waiting(app.AsyncResult(task_id).get, timeout=600)

    backend.client.set(backend.get_key_for_task(task_id), backend.encode(document(task_id, 8)))

    assert waiter.ended() == 8


def test_each_document_on_the_way_is_told(app, backend):
    task_id = new_id()
    told: list[Any] = []
    waiter = waiting(app.AsyncResult(task_id).get, on_message=told.append)

    for progress in (1, 2):
        backend.store_result(task_id, {"progress": progress}, "PROGRESS")
    backend.store_result(task_id, "end", states.SUCCESS)

    assert waiter.ended() == "end"
    assert [(meta["status"], meta["result"]) for meta in told] == [
        ("PROGRESS", {"progress": 1}),
        ("PROGRESS", {"progress": 2}),
        ("SUCCESS", "end"),
    ]


def test_garbage_on_a_channel_is_not_taken_for_the_result(app, backend):
    task_id = new_id()
    key = backend.get_key_for_task(task_id)
    waiter = waiting(app.AsyncResult(task_id).get)

    backend.client.publish(key, b"\xff no document")
    backend.store_result(task_id, "the result", states.SUCCESS)

    assert waiter.ended() == "the result"


def test_garbage_in_the_store_is_an_error(app, backend):
    task_id = new_id()
    waiter = waiting(app.AsyncResult(task_id).get)

    backend.set(backend.get_key_for_task(task_id), b"\xff no document")

    with pytest.raises(BackendGetMetaError, match=task_id):
        waiter.ended()


def test_waiting_ends_with_an_error_when_redis_is_gone():
    server = RedisServer()
    options = {"retry_policy": {"timeout": 0.5}}
    app = Celery(
        "proj",
        broker="memory://x",
        backend=server.url(),
        set_as_current=False,
        result_backend_transport_options=options,
    )
    waiter = waiting(app.AsyncResult(new_id()).get)

    server.close()

    with pytest.raises(BackendGetMetaError, match="cannot be subscribed to"):
        waiter.ended()


def document(task_id: str, value: Any) -> dict[str, Any]:
    return {"status": "SUCCESS", "result": value, "traceback": None, "children": [], "task_id": task_id}


def test_a_forked_process_waits_by_itself(app, backend):
    task_id, of_child = new_id(), new_id()
    waiter = waiting(app.AsyncResult(task_id).get)
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()

    def child() -> None:
        begun = lambda: theirs.send("waits")  # noqa: E731
        theirs.send(app.AsyncResult(of_child).get(timeout=30, interval=60, on_interval=begun))
        os._exit(0)

    process = fork.Process(target=child)
    process.start()
    assert ours.recv() == "waits"
    backend.store_result(of_child, "of the child", states.SUCCESS)
    answer = ours.recv()
    process.join(30)
    backend.store_result(task_id, "of the parent", states.SUCCESS)

    assert (answer, process.exitcode) == ("of the child", 0)
    assert waiter.ended() == "of the parent"
    process.close()
    ours.close()
    theirs.close()
