"""Results in Redis, memcached and files that real Celery and we both write and read."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from compat_tests.conftest import APPS, PEER
from pyqs_celery import Celery
from pyqs_celery.app.request import Context
from tests.support.embedded import EmbeddedSqs
from tests.support.servers import MemcachedServer, RedisServer

_spec = importlib.util.spec_from_file_location("store_side", APPS / "store_side.py")
store_side = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(store_side)
DATE = re.compile(rb"\d{4}-\d\d-\d\dT[\d:.]+\+00:00")
IDS = [f"value-{number}" for number in range(5)]
IDS += "result started progress failed custom unserialisable retried revoked called extended stays unknown".split()
BODIES = "bodies"


class Peer:
    """Real Celery's side of a store, in a process of its own."""

    def __init__(self, settings: dict[str, Any], folder: Path) -> None:
        self._log = (folder / f"peer-{uuid.uuid4().hex}.log").open("w+")
        self._process = subprocess.Popen(
            [PEER, str(APPS / "store_side.py"), json.dumps(settings)],
            env={**os.environ, "AWS_EC2_METADATA_DISABLED": "true", "NO_PROXY": "127.0.0.1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            bufsize=1,
        )

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.say(name, *arguments)
            return self.hear()

        return call

    def say(self, *call: Any) -> None:
        self._process.stdin.write(json.dumps(call) + "\n")

    def hear(self) -> Any:
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            raise AssertionError(self._log.read()[-3000:])
        return json.loads(line)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()
        self._log.close()


class Store:
    """A place for results; ``raw(id)`` is what it keeps."""

    def __init__(self, kind: str, place: Any) -> None:
        self.kind = kind
        self.place = place
        self.empty()

    def empty(self) -> None:
        if self.kind == "file":
            for file in self.place.iterdir():
                file.unlink()
            self.settings = {"result_backend": f"file://{self.place}"}
        else:
            address = self.place.empty()
            self.settings = {"result_backend": address if self.kind == "redis" else f"cache+memcached://{address}/"}

    def raw(self, key: str) -> bytes | None:
        """A value without its dates."""
        app = Celery("raw", set_as_current=False, **self.settings)
        found = app.backend.get(app.backend.key_t(key))
        app.close()
        return found if found is None else DATE.sub(b"<date>", found)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Any]]:
    found = {"redis": RedisServer(), "memcached": MemcachedServer()}
    yield found
    for server in found.values():
        server.close()


@pytest.fixture(params=["redis", "memcached", "file"])
def store(request: pytest.FixtureRequest, servers: dict[str, Any], tmp_path: Path) -> Store:
    if request.param == "file":
        (tmp_path / "results").mkdir()
    return Store(request.param, servers.get(request.param, tmp_path / "results"))


@pytest.fixture
def redis_store(servers: dict[str, Any]) -> Store:
    return Store("redis", servers["redis"])


@pytest.fixture
def celerys(tmp_path: Path) -> Iterator[Callable[..., Peer]]:
    peers: list[Peer] = []

    def start(store: Store, **settings: Any) -> Peer:
        peers.append(Peer({**store.settings, **settings}, tmp_path))
        return peers[-1]

    yield start
    for peer in peers:
        peer.close()


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    # an exception's class is looked for in the modules that are loaded; Celery's side is its own main module
    monkeypatch.setitem(sys.modules, "store_side", store_side)
    monkeypatch.setattr(store_side.CustomError, "__module__", "__main__")
    sides: list[Any] = []

    def make(store: Store, **settings: Any) -> Any:
        app = Celery("compat", set_as_current=False, **{"broker_url": "memory://", **store.settings, **settings})
        sides.append(store_side.Side(app, Context))
        return sides[-1]

    yield make
    for side in sides:
        side.app.close()


def test_we_write_what_celery_writes_byte_for_byte(store, celerys, ours):
    keys = [f"celery-task-meta-{task_id}" for task_id in IDS] + ["celery-taskset-meta-group"]
    celerys(store).fill()
    theirs = {key: store.raw(key) for key in keys}
    store.empty()

    ours(store).fill()

    assert {key: store.raw(key) for key in keys} == theirs
    assert sum(value is not None for value in theirs.values()) == len(keys) - 1


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml"])
def test_each_reads_what_the_other_has_written(store, celerys, ours, serializer):
    settings = {"result_serializer": serializer, "accept_content": [serializer]}
    peer, side = celerys(store, **settings), ours(store, **settings)

    found = []
    for writer in (peer, side):
        store.empty()
        if serializer == "json":
            writer.fill()
        else:
            writer.store("value-3", [1, [2, {"a": None}]])
            writer.store("value-4", {"key": "value"})
        found += [{task_id: reader.read(task_id) for task_id in IDS} for reader in (peer, side)]
        found[-1]["group"], found[-2]["group"] = side.read_group("group"), peer.read_group("group")

    assert found[1:] == found[:1] * 3
    assert found[0]["value-3"][:2] == ["SUCCESS", [1, [2, {"a": None}]]]


@pytest.mark.parametrize("compression", ["gzip", "bzip2"])
def test_each_reads_what_the_other_has_compressed(store, celerys, ours, peer_version, compression):
    if peer_version < (5, 7) or store.kind == "memcached":
        pytest.skip("result_compression came with Celery 5.7, and not for memcached")
    peer, side = celerys(store, result_compression=compression), ours(store, result_compression=compression)

    peer.store("theirs", "x" * 1000)
    side.store("ours", "x" * 1000)

    assert store.raw("celery-task-meta-theirs")[:40] == store.raw("celery-task-meta-ours")[:40]
    assert side.read("theirs")[1] == peer.read("ours")[1] == "x" * 1000


def test_what_we_store_wakes_celerys_clients(redis_store, celerys, ours):
    waits, writes = celerys(redis_store), ours(redis_store)

    waits.say("wait", "woken", 30)
    assert waits.hear() == "waits"
    writes.store("woken", "by us")

    assert waits.hear() == "by us"


def test_what_celery_stores_wakes_our_clients(redis_store, celerys, ours):
    waits, writes = ours(redis_store), celerys(redis_store)
    told: list[str] = []

    value = waits.app.AsyncResult("woken").get(
        timeout=30, interval=5, on_interval=lambda: told or told.append(writes.store("woken", "by Celery"))
    )

    assert value == "by Celery"


class Stage:
    """A chord whose members Celery and we report, and the queue of its body."""

    def __init__(self, sides: dict[str, Any], sqs: EmbeddedSqs) -> None:
        self.sides = sides
        self.sqs = sqs
        self.group_id, self.body_id = str(uuid.uuid4()), str(uuid.uuid4())
        self.members = [str(uuid.uuid4()) for _ in range(6)]
        options = {"queue": BODIES, "task_id": self.body_id}
        self.body = {"task": "proj.body", "args": [], "kwargs": {}, "options": options, "subtask_type": None}
        self.body |= {"immutable": False}
        sqs.create(BODIES)

    def report(self, side: str, index: int, value: Any = None) -> None:
        value = index if value is None else value
        self.sides[side].report(self.group_id, self.members[index], index, value, self.body)

    def bodies(self) -> list[Any]:
        envelopes = [json.loads(base64.b64decode(body)) for body in self.sqs.bodies(BODIES)]
        return [json.loads(base64.b64decode(envelope["body"]))[0] for envelope in envelopes]


@pytest.fixture
def make_stage(celerys: Any, ours: Any, sqs: EmbeddedSqs) -> Callable[..., Stage]:
    def make(store: Store, **settings: Any) -> Stage:
        options = {"region": "us-east-1", "is_secure": False}
        settings["broker_url"] = f"sqs://test:test@{sqs.endpoint.removeprefix('http://')}//"
        settings["broker_transport_options"] = options
        return Stage({"celery": celerys(store, **settings), "ours": ours(store, **settings)}, sqs)

    return make


@pytest.fixture(params=["redis", "unordered redis", "memcached"])
def counting(request: pytest.FixtureRequest, servers: dict[str, Any]) -> tuple[Store, dict[str, Any]]:
    kind = request.param.split()[-1]
    unordered = {"result_backend_transport_options": {"result_chord_ordered": False}}
    return Store(kind, servers[kind]), unordered if request.param.startswith("unordered") else {}


@pytest.mark.parametrize("producer", ["celery", "ours"])
@pytest.mark.parametrize("last", ["celery", "ours"])
def test_a_chord_is_counted_by_both(counting, make_stage, peer_version, producer, last):
    store, settings = counting
    stage = make_stage(store, **settings)
    stage.sides[producer].begin(stage.group_id, stage.members, stage.body)

    for index, side in enumerate(["celery", "ours", "ours", "celery", "celery" if last == "ours" else "ours"]):
        stage.report(side, index)
    before = stage.bodies()
    stage.report(last, 5)
    if last == "ours" or (store.kind == "redis" and peer_version >= (5, 7)):
        stage.report("ours", 5)
        stage.report("ours", 0)

    assert before == []
    assert stage.bodies() == [[list(range(6))]]


def test_a_member_that_both_have_run_is_counted_once(redis_store, make_stage):
    stage = make_stage(redis_store)
    stage.sides["celery"].begin(stage.group_id, stage.members, stage.body)

    for index in range(5):
        stage.report("celery", index)
        stage.report("ours", index, f"again {index}")
    before = stage.bodies()
    stage.report("ours", 5)

    assert before == []
    assert stage.bodies() == [[list(range(6))]]


@pytest.mark.parametrize("producer", ["celery", "ours"])
@pytest.mark.parametrize("last", ["celery", "ours"])
def test_a_group_in_a_header_is_a_list_for_both(redis_store, make_stage, producer, last):
    stage = make_stage(redis_store)
    stage.sides[producer].begin(stage.group_id, [stage.members[0], stage.members[1:5], stage.members[5]], stage.body)

    for index, side in enumerate(["celery", "ours", "celery", "ours", "celery", last]):
        stage.report(side, index)

    assert stage.bodies() == [[[0, [1, 2, 3, 4], 5]]]


@pytest.mark.parametrize("last", ["celery", "ours"])
def test_a_failed_member_fails_the_body_for_both(counting, make_stage, last):
    store, settings = counting
    stage = make_stage(store, **settings)
    stage.sides["celery"].begin(stage.group_id, stage.members, stage.body)

    for index, side in enumerate(["celery", "ours", "ours", "celery", "celery", last]):
        stage.report(side, index, {"error": "why"} if index == 2 else None)

    read = [side.read(stage.body_id)[:2] for side in stage.sides.values()]
    reason = f"Dependency {stage.members[2]} raised ValueError('why')"
    if store.kind == "memcached" and last == "celery":  # Celery names the member only if it has its state at hand
        reason = "ValueError('why')"
    assert read == [["FAILURE", ["ChordError", [reason]]]] * 2
    assert stage.bodies() == []
