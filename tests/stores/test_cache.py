"""Results in real memcached servers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pyqs_celery import Celery, states
from pyqs_celery.backends.cache import Servers
from pyqs_celery.backends.memory import MemoryBackend
from pyqs_celery.exceptions import (
    BackendError,
    BackendGetMetaError,
    BackendStoreError,
    ImproperlyConfigured,
    ResultTooLarge,
)
from tests.stores.contract import Chord, StoreContract, new_id
from tests.support.servers import MemcachedServer, free_port


@pytest.fixture
def url(memcached_server: MemcachedServer) -> str:
    return f"cache+memcached://{memcached_server.empty()}/"


@pytest.fixture(scope="module")
def second_server() -> Iterator[MemcachedServer]:
    server = MemcachedServer()
    yield server
    server.close()


@pytest.fixture
def make_app() -> Iterator[Callable[..., Any]]:
    apps = []
    broker = f"memory://{new_id()}"

    def make(backend: Any, **settings: Any) -> Any:
        apps.append(Celery("proj", broker=broker, backend=backend, set_as_current=False, **settings))
        return apps[-1]

    yield make
    for app in apps:
        app.close()


class TestMemcached(StoreContract):
    compresses = False

    @pytest.fixture
    def settings(self, url: str) -> dict[str, Any]:
        return {"result_backend": url}


class TestTwoServers(TestMemcached):
    @pytest.fixture
    def settings(self, memcached_server: MemcachedServer, second_server: MemcachedServer) -> dict[str, Any]:
        return {"result_backend": f"cache+memcached://{memcached_server.empty()};{second_server.empty()}/"}


@pytest.mark.parametrize("name", ["memcached", "memcache", "pymemcache", "pylibmc"])
def test_all_of_celerys_names_mean_the_same(make_app, memcached_server, name):
    address = memcached_server.empty()
    app = make_app("cache", cache_backend=f"{name}://{address}/")

    app.backend.store_result("t", 1, states.SUCCESS)

    assert app.backend.as_uri() == f"{name}://{address}/"
    assert json.loads(app.backend.client.of("x").get("celery-task-meta-t"))["result"] == 1


@pytest.mark.parametrize("place", ["memory", "memory://"])
def test_the_cache_may_be_the_memory_of_the_process(make_app, place):
    app = make_app("cache", cache_backend=place)

    assert isinstance(app.backend, MemoryBackend)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "cache_backend '' is not known"),
        ({"cache_backend": "locmem://"}, "cache_backend 'locmem' is not known"),
        ({"cache_backend": "memcached://"}, "need a server"),
        ({"cache_backend": "memcached://h:port/"}, "memcached at 'h:port'"),
        ({"cache_backend": "memcached://h:1/", "cache_backend_options": {"usrname": "x"}}, "usrname"),
    ],
)
def test_settings_that_mean_nothing(make_app, settings, sentence):
    with pytest.raises(ImproperlyConfigured, match=sentence):
        _ = make_app("cache", **settings).backend


def test_options_of_other_clients_are_told_and_ignored(make_app, url):
    app = make_app(url, cache_backend_options={"binary": True, "behaviors": {}, "timeout": 3})

    with pytest.warns(UserWarning, match="behaviors, binary mean nothing"):
        app.backend.store_result("t", 1, states.SUCCESS)

    assert app.AsyncResult("t").get(timeout=5) == 1


def test_results_are_kept_for_more_than_thirty_days(make_app, url):
    app = make_app(url, result_expires=40 * 86_400)

    app.backend.store_result("t", 1, states.SUCCESS)

    assert app.AsyncResult("t").state == states.SUCCESS


def test_results_expire(make_app, url):
    app = make_app(url, result_expires=1)
    app.backend.store_result("t", 1, states.SUCCESS)
    until = time.monotonic() + 10

    while app.AsyncResult("t").state == states.SUCCESS:
        assert time.monotonic() < until


def test_a_value_that_is_too_large_is_told_with_its_task(make_app, url):
    app = make_app(url)

    with pytest.raises(ResultTooLarge, match="the result of task big-one is 1100"):
        app.backend.store_result("big-one", "x" * 1_100_000, states.SUCCESS)


@pytest.mark.parametrize("task_id", ["with space", "ü", "x" * 240, "line\nbreak"])
def test_ids_that_are_no_keys_are_refused(make_app, url, task_id):
    backend = make_app(url).backend

    with pytest.raises(BackendError, match="cannot be a key in memcached"):
        backend.store_result(task_id, 1, states.SUCCESS)
    with pytest.raises(BackendError, match="cannot be a key in memcached"):
        backend.get_task_meta(task_id)


def test_a_server_that_is_down_is_an_error_and_never_an_empty_answer(make_app, memcached_server):
    gone = f"127.0.0.1:{free_port()}"
    app = make_app(f"cache+memcached://{memcached_server.empty()};{gone}/")
    backend, now = app.backend, [0.0]
    backend.clock = lambda: now[0]
    backend.sleep = lambda seconds: now.__setitem__(0, now[0] + seconds)
    servers = backend.client
    ids = [new_id() for _ in range(40)]
    lost = next(each for each in ids if servers.of(f"celery-task-meta-{each}").server[1] != memcached_server.port)
    kept = next(each for each in ids if servers.of(f"celery-task-meta-{each}").server[1] == memcached_server.port)

    for _ in range(5):  # pymemcache's own client for several servers gives up asking after a few times
        with pytest.raises(BackendStoreError, match="Connection refused"):
            backend.store_result(lost, 1, states.SUCCESS)
        with pytest.raises(BackendGetMetaError, match="Connection refused"):
            backend.get_task_meta(lost)
    backend.store_result(kept, 1, states.SUCCESS)

    assert backend.get_task_meta(kept)["result"] == 1
    assert now[0] < 120


def test_servers_are_chosen_as_celery_chooses_them():
    """By pymemcache's HashClient, over servers as text."""
    from pymemcache.client.hash import HashClient

    addresses = ["10.0.0.1:11211", "10.0.0.2:11212", "/run/memcached.sock"]
    ours, theirs = Servers(addresses, {}), HashClient(addresses)

    for number in range(100):
        key = f"celery-task-meta-{number}"
        assert ours.of(key).server == theirs._get_client(key).server


def test_the_counter_is_that_of_celery(make_app, url):
    app = make_app(url)
    chord = Chord(app, 3).begin()
    key = f"chord-unlock-{chord.group_id}"
    before = app.backend.get(key)

    chord.report(0)
    ours = app.backend.get(key)
    # a member that a worker of Celery's ran
    app.backend.store_result(chord.members[1], "of Celery", states.SUCCESS)
    app.backend.client.of(key).incr(key, 1)
    chord.report(2)

    assert (before, ours) == (b"0", b"1")
    assert chord.bodies() == [[[0, "of Celery", 2]]]


def test_when_the_counter_was_dropped_the_results_tell(make_app, url):
    app = make_app(url)
    chord = Chord(app, 3).begin()
    chord.report(0)
    app.backend.delete(f"chord-unlock-{chord.group_id}")

    chord.report(1)
    before = chord.bodies()
    chord.report(2)

    assert before == []
    assert chord.bodies() == [[[0, 1, 2]]]
