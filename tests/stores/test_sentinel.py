"""Results in the Redis that real Sentinels call the master."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pyqs_celery import Celery
from pyqs_celery.exceptions import BackendError, ImproperlyConfigured
from tests.stores.contract import StoreContract
from tests.support.servers import RedisSentinel, RedisServer, free_port
from tests.support.waiting import until

MASTER = "results"


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[RedisServer, RedisServer, RedisSentinel]]:
    """A master, its replica and a Sentinel."""
    master = RedisServer()
    replica = RedisServer("--replicaof", "127.0.0.1", str(master.port), "--repl-diskless-sync-delay", "0")
    sentinel = RedisSentinel(master, MASTER)
    yield master, replica, sentinel
    for server in (sentinel, replica, master):
        server.close()


def settings_for(sentinel: RedisServer, **options: Any) -> dict[str, Any]:
    # the first of the two is not there
    url = f"sentinel://127.0.0.1:{free_port()}/0;sentinel://127.0.0.1:{sentinel.port}/0"
    return {"result_backend": url, "result_backend_transport_options": {"master_name": MASTER, **options}}


class TestSentinel(StoreContract):
    @pytest.fixture
    def settings(self, servers: tuple[RedisServer, RedisServer, RedisSentinel]) -> dict[str, Any]:
        servers[0].empty()
        return settings_for(servers[2], sentinel_kwargs={"socket_timeout": 5})

    def claim_for_another(self, backend, group_id, seconds):
        assert backend.client.set(backend.get_key_for_group(group_id, ".c"), "another-worker", nx=True, ex=seconds)


def test_the_master_must_be_named(servers):
    app = Celery("proj", backend=f"sentinel://127.0.0.1:{servers[2].port}/0", set_as_current=False)

    with pytest.raises(ImproperlyConfigured, match="master_name"):
        _ = app.backend.client


def test_a_sentinel_that_knows_too_few_others_is_not_asked(servers):
    options = {"min_other_sentinels": 1, "retry_policy": {"timeout": 0.1}}
    app = Celery("proj", set_as_current=False, **settings_for(servers[2], **options))

    with pytest.raises(BackendError, match="No master found"):
        _ = app.AsyncResult("t").state
    app.close()


# the last of this module: the first server does not come back
def test_when_the_master_dies_results_go_to_the_new_one(servers):
    master, replica, sentinel = servers
    until(lambda: "slave0" in replicas(master), "the replica is there")
    until(lambda: sentinel.ask("SENTINEL", "CKQUORUM", MASTER).startswith("+OK"), "the sentinel is ready")
    until(lambda: sentinel.ask("SENTINEL", "REPLICAS", MASTER) != "*0", "the sentinel knows the replica")
    app = Celery("proj", broker="memory://x", set_as_current=False, **settings_for(sentinel))
    app.backend.store_result("before", 1, "SUCCESS")
    until(lambda: app.backend.client.wait(1, 1000) == 1, "the replica has it")

    master.close()
    app.conf.result_backend_transport_options |= {"retry_policy": {"timeout": 60}}
    app.conf.result_expires = 1000  # a new back end reads the options again
    app.backend.store_result("after", 2, "SUCCESS")

    assert app.AsyncResult("before").get(timeout=10) == 1
    assert app.AsyncResult("after").get(timeout=10) == 2
    assert replica.ask("EXISTS", "celery-task-meta-after") == ":1"
    app.close()


def replicas(master: RedisServer) -> str:
    import redis

    with redis.Redis.from_url(master.url()) as client:
        return str(client.info("replication"))
