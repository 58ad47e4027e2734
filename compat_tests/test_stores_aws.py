"""One store of results at AWS for Celery and for us: the same items, and each reads what the other has stored."""

from __future__ import annotations

import base64
import itertools
import json
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from compat_tests.conftest import APPS, PEER
from pyqs_celery import Celery
from pyqs_celery.app.request import Context
from tests.support.aws import AtomicMoto

VALUES = [None, 1.5, "é 漢字", [1, [2, {"a": None}]], {"key": "value"}]


@pytest.fixture(scope="module")
def aws() -> Iterator[AtomicMoto]:
    server = AtomicMoto()
    yield server
    server.close()


class Store:
    """A place for results, raw as it is kept."""

    def __init__(self, server: AtomicMoto, kind: str) -> None:
        self.kind, self.name = kind, f"{kind}-{uuid.uuid4().hex[:12]}"
        self.client = server.client(kind)
        if kind == "dynamodb":
            url = f"dynamodb://us-east-1/{self.name}?ttl_seconds=3600"
            self.settings = {"result_backend": url, "dynamodb_endpoint_url": server.endpoint}
        else:
            self.client.create_bucket(Bucket=self.name)
            self.settings = {"result_backend": "s3://", "s3_bucket": self.name, "s3_base_path": "base/"}
            self.settings |= {"s3_endpoint_url": server.endpoint, "s3_region": "us-east-1"}

    def items(self) -> dict[str, Any]:
        """What is kept, by key, without what differs at each time."""
        if self.kind == "s3":
            keys = [found["Key"] for found in self.client.list_objects_v2(Bucket=self.name)["Contents"]]
            return {key: document(self.client.get_object(Bucket=self.name, Key=key)["Body"].read()) for key in keys}
        return {item["id"]["S"]: self.plain(item) for item in self.client.scan(TableName=self.name)["Items"]}

    @staticmethod
    def plain(item: dict[str, Any]) -> dict[str, Any]:
        lives = int(item["ttl"]["N"]) - int(float(item["timestamp"]["N"]))
        return {**item, "result": document(item["result"]["B"]), "timestamp": set(item["timestamp"]), "ttl": lives}


def document(data: bytes) -> Any:
    found = json.loads(data)
    if found.get("date_done"):
        found["date_done"] = "a date"
    return found


class Side:
    """What both sides do with a store."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *arguments: self._call(name, *arguments)


class OurSide:
    def __init__(self, store: Store, broker: str = "memory://") -> None:
        self.app = Celery("compat", broker=broker, set_as_current=False, **store.settings)

    def store(self, task_id, value):
        self.app.backend.store_result(task_id, value, "SUCCESS")

    def fail(self, task_id, *args):
        self.app.backend.store_result(task_id, ValueError(*args), "FAILURE", traceback="Traceback ...")

    def group(self, group_id, task_ids):
        self.app.GroupResult(group_id, [self.app.AsyncResult(each) for each in task_ids]).save()

    def begin(self, group_id, task_ids, body):
        results = [self.app.AsyncResult(each) for each in task_ids]
        self.app.backend.apply_chord((group_id, results), self.app.signature(body))

    def report(self, group_id, task_id, index, value, body):
        request = Context(id=task_id, group=group_id, group_index=index, chord=body, task="compat.member")
        self.app.backend.mark_as_done(task_id, value, request=request)

    def read(self, task_id):
        meta = self.app.backend.get_task_meta(task_id)
        result = meta["result"]
        if isinstance(result, Exception):
            result = [type(result).__name__, list(result.args)]
        return [meta["status"], result, meta.get("traceback")]

    def read_group(self, group_id):
        found = self.app.GroupResult.restore(group_id)
        return found and [each.id for each in found.results]


@pytest.fixture
def celerys_side(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """``celerys_side(store)``: the peer, which answers call after call."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    processes: list[subprocess.Popen[str]] = []

    def start(store: Store, **settings: Any) -> Side:
        process = subprocess.Popen(
            [PEER, str(APPS / "aws_store_peer.py"), json.dumps({**store.settings, **settings})],
            env={**os.environ, "NO_PROXY": "127.0.0.1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        processes.append(process)

        def call(*words: Any) -> Any:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(words) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            assert line, f"the peer ended with {process.wait(10)} at {words}"
            return json.loads(line)

        return Side(call)

    yield start
    for process in processes:
        process.communicate(timeout=30)


@pytest.fixture(params=["dynamodb", "s3"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def fill(side: Any) -> None:
    for number, value in enumerate(VALUES):
        side.store(f"value-{number}", value)
    side.fail("failed", "why", 3)
    side.group("group", ["value-0", "failed"])


def test_we_store_what_celery_stores(aws, kind, celerys_side):
    theirs, ours = Store(aws, kind), Store(aws, kind)

    fill(celerys_side(theirs))
    fill(OurSide(ours))

    assert ours.items() == theirs.items()


@pytest.mark.parametrize("direction", ["we read Celery's", "Celery reads ours"])
def test_each_reads_what_the_other_has_stored(aws, kind, celerys_side, direction):
    store = Store(aws, kind)
    ours, theirs = OurSide(store), celerys_side(store)
    writer, reader = (theirs, ours) if direction == "we read Celery's" else (ours, theirs)

    fill(writer)

    assert [reader.read(f"value-{number}") for number in range(len(VALUES))] == [
        ["SUCCESS", value, None] for value in VALUES
    ]
    assert reader.read("failed") == ["FAILURE", ["ValueError", ["why", 3]], "Traceback ..."]
    assert reader.read_group("group") == ["value-0", "failed"]
    assert reader.read("unknown") == ["PENDING", None, None]
    assert reader.read_group("unknown") is None


def test_compressed_results_are_read_by_each(aws, celerys_side, peer_version):
    if peer_version < (5, 7):
        pytest.skip("result_compression came with Celery 5.7")
    store = Store(aws, "dynamodb")
    theirs = celerys_side(store, result_compression="gzip")
    store.settings["result_compression"] = "gzip"
    ours = OurSide(store)

    theirs.store("theirs", "x" * 1000)
    ours.store("ours", "y" * 1000)

    raw = [item["result"]["B"] for item in store.client.scan(TableName=store.name)["Items"]]
    assert all(data.startswith(b"\x00celery-compressed\x00application/x-gzip\x00") for data in raw)
    assert ours.read("theirs")[1] == "x" * 1000
    assert theirs.read("ours")[1] == "y" * 1000


@pytest.mark.parametrize("producer", ["ours", "theirs"])
@pytest.mark.parametrize("last", ["ours", "theirs"])
def test_a_chord_is_counted_by_both(aws, sqs, celerys_side, monkeypatch, producer, last):
    for name, value in sqs.environment.items():
        monkeypatch.setenv(name, value)
    sqs.create("bodies")
    store = Store(aws, "dynamodb")
    endpoint = sqs.endpoint.removeprefix("http://")
    options = {"region": "us-east-1", "is_secure": False}
    theirs = celerys_side(store, broker_url=f"sqs://test:test@{endpoint}//", broker_transport_options=options)
    if not theirs.can_count():
        pytest.skip("this version of Celery does not count chords in DynamoDB")
    sides = {"ours": OurSide(store, "sqs://"), "theirs": theirs}
    group_id, members = str(uuid.uuid4()), [str(uuid.uuid4()) for _ in range(6)]
    body = {"task": "compat.body", "args": [], "kwargs": {}, "options": {"queue": "bodies", "task_id": "body-id"}}
    body |= {"subtask_type": None, "immutable": False}
    order = ["theirs", "ours", "theirs", "ours", *(("theirs", "ours") if last == "ours" else ("ours", "theirs"))]

    sides[producer].begin(group_id, members, body)
    for (index, member), side in zip(enumerate(members), order, strict=True):
        assert sqs.bodies("bodies") == []
        sides[side].report(group_id, member, index, index, body)
    if last == "ours":
        sides["ours"].report(group_id, members[-1], 5, 5, body)  # its message has come again

    (sent,) = sqs.bodies("bodies")
    envelope = json.loads(base64.b64decode(sent))
    args, _, _ = json.loads(base64.b64decode(envelope["body"]))
    assert args == [list(range(6))]
    assert sides["theirs"].read_group(group_id) is None
    left = {item["id"]["S"] for item in store.client.scan(TableName=store.name)["Items"]}
    mark = {f"b'chord-unlock-{group_id}.c'"} if last == "ours" else set()
    assert left == {f"b'celery-task-meta-{member}'" for member in members} | mark


def test_a_failed_member_fails_the_body_for_both(aws, celerys_side):
    store = Store(aws, "dynamodb")
    theirs, ours = celerys_side(store), OurSide(store)
    if not theirs.can_count():
        pytest.skip("this version of Celery does not count chords in DynamoDB")
    body = {"task": "compat.body", "args": [], "kwargs": {}, "options": {"task_id": "body-id"}, "subtask_type": None}
    theirs.begin("group-id", ["one", "two"], body)

    theirs.report("group-id", "one", 0, 0, body)
    request = Context(id="two", group="group-id", group_index=1, chord=body, task="compat.member")
    ours.app.backend.mark_as_failure("two", ValueError("why"), request=request)

    expected = ["FAILURE", ["ChordError", ["Dependency two raised ValueError('why')"]]]
    assert [side.read("body-id")[:2] for side in (ours, theirs)] == list(itertools.repeat(expected, 2))
