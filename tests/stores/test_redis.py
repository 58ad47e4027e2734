"""Results in a real Redis."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyqs_celery import Celery, states
from pyqs_celery.backends.redis import RedisBackend
from pyqs_celery.exceptions import BackendError, BackendGetMetaError, BackendStoreError, ResultTooLarge
from tests.stores.contract import StoreContract, new_id
from tests.support.servers import RedisServer, free_port


@pytest.fixture
def url(redis_server: RedisServer) -> str:
    """An empty database."""
    return redis_server.empty()


@pytest.fixture
def make_app() -> Iterator[Callable[..., Any]]:
    apps = []

    def make(backend: Any, **settings: Any) -> Any:
        apps.append(Celery("proj", broker="memory://redis", backend=backend, set_as_current=False, **settings))
        return apps[-1]

    yield make
    for app in apps:
        app.close()


class TestRedis(StoreContract):
    @pytest.fixture
    def settings(self, url: str) -> dict[str, Any]:
        return {"result_backend": url}

    def seconds_left(self, backend, task_id):
        left = backend.client.ttl(backend.get_key_for_task(task_id))
        return None if left == -1 else left

    def claim_for_another(self, backend, group_id, seconds):
        assert backend.client.set(backend.get_key_for_group(group_id, ".c"), "another-worker", nx=True, ex=seconds)


def test_a_document_is_written_and_published_at_once(make_app, url):
    backend = make_app(url).backend
    task_id = new_id()
    key = f"celery-task-meta-{task_id}"
    backend.client.ping()

    with make_app(url).backend.client.monitor() as monitor:
        backend.store_result(task_id, 6, states.SUCCESS)
        seen = []
        for entry in monitor.listen():
            seen.append(entry["command"].split()[0])
            if seen[-1] == "EXEC":
                break

    assert seen == ["GET", "MULTI", "SET", "PUBLISH", "EXEC"]
    assert json.loads(backend.client.get(key))["result"] == 6
    assert 86_390 < backend.client.ttl(key) <= 86_400


@pytest.mark.parametrize(("setting", "kept"), [(60, 60), (0, -1), (None, 1000)])
def test_failures_may_be_kept_for_another_time(make_app, url, setting, kept):
    backend = make_app(url, result_expires=1000, result_failure_expires=setting).backend
    failed, done = new_id(), new_id()

    backend.store_result(failed, ValueError(), states.FAILURE)
    backend.store_result(done, 1, states.SUCCESS)

    assert kept - 2 <= backend.client.ttl(backend.get_key_for_task(failed)) <= kept
    assert 990 < backend.client.ttl(backend.get_key_for_task(done)) <= 1000


def test_a_value_that_is_too_large_is_told_with_its_task(make_app, redis_server, url):
    class Small(RedisBackend):
        _MAX_STR_VALUE_SIZE = 1000

    backend = make_app(Small, redis_port=redis_server.port).backend

    with pytest.raises(ResultTooLarge, match=r"the result of task big-one is 37\d\d bytes"):
        backend.store_result("big-one", "é" * 600, states.SUCCESS)


def test_what_redis_refuses_is_told_at_once(make_app, url):
    backend = make_app(url).backend
    backend.client.lpush(backend.get_key_for_task("a-list"), 1)
    began = time.monotonic()

    with pytest.raises(BackendError, match="WRONGTYPE"):
        backend.store_result("a-list", 1, states.SUCCESS)

    assert time.monotonic() - began < 8, "what may pass is tried for ten seconds"


def test_a_redis_that_is_full_is_asked_again(make_app):
    server = RedisServer("--maxmemory", "1", "--maxmemory-policy", "noeviction")
    app = make_app(server.url(), result_backend_transport_options={"retry_policy": {"timeout": 0.5}})

    try:
        with pytest.raises(BackendStoreError, match="maxmemory") as caught:
            app.backend.store_result(new_id(), "confidential", states.SUCCESS)
        assert "confidential" not in str(caught.value)
        server.ask("CONFIG", "SET", "maxmemory", "0")
        app.backend.store_result("kept", 1, states.SUCCESS)

        assert app.AsyncResult("kept").get(timeout=5) == 1
    finally:
        server.close()


def test_a_server_that_is_not_there_is_an_error_in_bounded_time(make_app):
    app = make_app(f"redis://127.0.0.1:{free_port()}/0")
    backend, now = app.backend, [0.0]
    backend.clock = lambda: now[0]
    backend.sleep = lambda seconds: now.__setitem__(0, now[0] + seconds)

    with pytest.raises(BackendStoreError, match="t-1 cannot be stored: ConnectionError"):
        backend.store_result("t-1", 1, states.SUCCESS)
    written = now[0]
    with pytest.raises(BackendGetMetaError, match="t-1 cannot be read: ConnectionError"):
        _ = app.AsyncResult("t-1").state

    assert written <= 10
    assert now[0] - written <= 10


@pytest.mark.parametrize(
    ("policy", "least", "most"),
    # 10 ms doubled eight times is 1.275 s when chance halves each of them; a ninth of up to 2.56 s may be too late.
    [({"timeout": 3}, 1.27, 3), ({"max_retries": 2, "interval_start": 1, "interval_max": 1}, 1, 2)],
)
def test_celerys_retry_policy_is_heeded(make_app, policy, least, most):
    app = make_app(f"redis://127.0.0.1:{free_port()}/0", result_backend_transport_options={"retry_policy": policy})
    backend, now = app.backend, [0.0]
    backend.clock = lambda: now[0]
    backend.sleep = lambda seconds: now.__setitem__(0, now[0] + seconds)

    with pytest.raises(BackendStoreError):
        backend.store_result("t-1", 1, states.SUCCESS)

    assert least <= now[0] <= most


def test_a_server_that_comes_back_is_used_again(make_app):
    port = free_port()
    server = RedisServer(port=port)
    app = make_app(f"redis://127.0.0.1:{port}/0", result_backend_transport_options={"retry_policy": {"timeout": 0.2}})
    app.backend.store_result("before", 1, states.SUCCESS)
    server.close()
    with pytest.raises(BackendStoreError):
        app.backend.store_result("between", 1, states.SUCCESS)

    server = RedisServer(port=port)
    try:
        app.backend.store_result("after", 1, states.SUCCESS)

        assert app.AsyncResult("after").get(timeout=5) == 1
    finally:
        server.close()


def test_settings_stand_where_the_url_says_nothing(make_app, redis_server, url):
    app = make_app("redis", redis_host="127.0.0.1", redis_port=redis_server.port, redis_db=3, redis_client_name="shop")

    app.backend.store_result("t", 1, states.SUCCESS)

    assert make_app(redis_server.url(3)).AsyncResult("t").get(timeout=5) == 1
    assert "shop" in {client["name"] for client in app.backend.client.client_list()}


def test_users_and_passwords(make_app):
    server = RedisServer("--requirepass", "s3cret/+")
    try:
        app = make_app(f"redis://:s3cret%2F%2B@127.0.0.1:{server.port}/0")
        app.backend.store_result("t", 1, states.SUCCESS)
        app.backend.client.acl_setuser(
            "shop", enabled=True, passwords=["+pw"], keys=["*"], channels=["*"], commands=["+@all"]
        )

        named = make_app(f"redis://shop:pw@127.0.0.1:{server.port}/0")
        assert named.AsyncResult("t").get(timeout=5) == 1
        assert named.backend.as_uri() == f"redis://shop:**@127.0.0.1:{server.port}/0"
        strange = make_app(server.url(), result_backend_transport_options={"retry_policy": {"timeout": 0.1}})
        with pytest.raises(BackendGetMetaError, match="Authentication"):
            _ = strange.AsyncResult("t").state
    finally:
        server.close()


def test_a_socket_of_this_machine(make_app, tmp_path: Path):
    place = tmp_path / "redis.sock"
    server = RedisServer("--unixsocket", str(place))
    try:
        app = make_app(f"redis+socket://{place}?virtual_host=2")
        app.backend.store_result("t", 1, states.SUCCESS)

        assert app.AsyncResult("t").get(timeout=5) == 1
        assert make_app(server.url(2)).AsyncResult("t").state == states.SUCCESS
    finally:
        server.close()


def test_text_answers_are_read_and_not_compressed(make_app, url):
    with pytest.warns(UserWarning, match="decode_responses"):
        backend = make_app(f"{url}?decode_responses=true", result_compression="gzip").backend

    backend.store_result("t", "x" * 1000, states.SUCCESS)

    assert backend.get_result("t") == "x" * 1000
    assert backend.client.get("celery-task-meta-t").startswith("{")


def test_numbers_marks_and_their_times(make_app, url):
    backend = make_app(url).backend

    counted = [backend.incr("number"), backend.incr("number")]
    added = [backend.add("mark", "first", 60), backend.add("mark", "second", 60)]
    backend.expire("number", 30)

    assert (counted, added, backend.get("mark")) == ([1, 2], [True, False], b"first")
    assert 28 <= backend.client.ttl("number") <= 30
    assert 58 <= backend.client.ttl("mark") <= 60
    backend.expire("mark", 0)
    backend.delete("number")
    assert (backend.client.ttl("mark"), backend.get("number")) == (-1, None)


def test_many_may_be_looked_at_so_many_times(make_app, url):
    backend = make_app(url).backend
    backend.store_result("ended", 1, states.SUCCESS)

    found = list(backend.get_many(["ended", "never"], interval=0.01, max_iterations=2))

    assert [task_id for task_id, _ in found] == ["ended"]
