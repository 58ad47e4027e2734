"""Results in S3, as moto's server plays it."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest

from pyqs_celery import states
from pyqs_celery.app.request import Context
from pyqs_celery.backends import chords
from pyqs_celery.exceptions import BackendStoreError
from tests.stores.contract import Chord, StoreContract, new_id
from tests.support.aws import KEYS


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


class Bucket:
    """A bucket of its own for a test, and boto3's client to look into it."""

    def __init__(self, server: Any) -> None:
        self.endpoint = server.endpoint
        self.name = f"results-{uuid.uuid4().hex[:12]}"
        self.client = server.client("s3")
        self.client.create_bucket(Bucket=self.name)

    def keys(self) -> list[str]:
        return [found["Key"] for found in self.client.list_objects_v2(Bucket=self.name).get("Contents", ())]

    def text(self, key: str) -> str:
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read().decode()


@pytest.fixture
def bucket(aws_server: Any) -> Bucket:
    return Bucket(aws_server)


class TestS3(StoreContract):
    counts_chords = False
    compresses = False

    @pytest.fixture
    def settings(self, bucket: Bucket) -> dict[str, Any]:
        return {"result_backend": "s3://", "s3_bucket": bucket.name, "s3_endpoint_url": bucket.endpoint}

    # -- objects -----------------------------------------------------------------------------------

    def test_an_object_is_celerys(self, backend, bucket):
        backend.store_result("some-id", {"a": 1}, states.SUCCESS)

        assert bucket.keys() == ["celery-task-meta-some-id"]
        assert '"result": {"a": 1}' in bucket.text("celery-task-meta-some-id")

    @pytest.mark.parametrize("base", ["base/", "base-"])
    def test_the_base_path_comes_directly_before_the_key(self, make_app, bucket, base):
        make_app(s3_base_path=base).backend.store_result("some-id", 1, states.SUCCESS)

        assert bucket.keys() == [f"{base}celery-task-meta-some-id"]

    def test_bucket_and_base_path_by_url(self, make_app, bucket):
        app = make_app(result_backend=f"s3://{bucket.name}/base/", s3_bucket=None)

        app.backend.store_result("some-id", 1, states.SUCCESS)

        assert bucket.keys() == ["base/celery-task-meta-some-id"]

    def test_a_bucket_that_is_not_there_is_told(self, make_app):
        app = make_app(s3_bucket="no-such-bucket")

        with pytest.raises(BackendStoreError, match=r"'no-such-bucket'.*there is no such bucket"):
            app.backend.store_result("some-id", 1, states.SUCCESS)

    def test_several_threads_share_one_client(self, app, backend):
        ids = [new_id() for _ in range(16)]

        def store(task_id: str) -> None:
            assert app.backend is backend
            app.backend.store_result(task_id, task_id, states.SUCCESS)

        threads = [threading.Thread(target=store, args=(task_id,)) for task_id in ids]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

        group = app.GroupResult(new_id(), [app.AsyncResult(task_id) for task_id in ids])
        assert group.get(timeout=20) == ids

    # -- marks -------------------------------------------------------------------------------------

    @pytest.fixture
    def marking(self, backend: Any) -> Any:
        try:
            backend.add(b"any", "x", 1)
        except NotImplementedError as exc:
            pytest.skip(str(exc))
        return backend

    def test_a_mark_holds_for_its_time(self, marking):
        now = [1000.0]
        marking.wall_clock = lambda: now[0]

        assert marking.add(b"mark", "one", 5)
        now[0] += 4.9
        assert not marking.add(b"mark", "two", 5)
        now[0] += 0.2
        assert marking.add(b"mark", "three", 5)

        assert marking.get(b"mark") == b"three"

    def test_an_object_that_is_no_mark_stays(self, marking):
        marking.set(b"object", "x")

        assert not marking.add(b"object", "y", 0)
        assert marking.get(b"object") == b"x"

    def test_of_many_who_add_a_mark_at_once_one_does(self, marking):
        won, start = [], threading.Barrier(8)

        def add(name: int) -> None:
            start.wait(30)
            if marking.add(b"mark", str(name), 60):
                won.append(str(name).encode())

        threads = [threading.Thread(target=add, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

        assert won == [marking.get(b"mark")]

    # -- chords ------------------------------------------------------------------------------------

    def test_chord_unlock_that_comes_again_calls_the_body_once(self, app):
        chord = Chord(app, 30)
        app.backend.apply_chord(
            (chord.group_id, [app.AsyncResult(each) for each in chord.members]), app.signature(dict(chord.body))
        )
        unlocks = chord.bodies()  # its message goes to the queue of the body
        for index in range(30):
            chord.report(index)

        for _ in range(2):
            self.complete(app, chord)

        assert len(unlocks) == 1
        assert chord.bodies() == [[list(range(30))]]

    def test_a_chord_that_is_sent_again_with_its_ids_runs_again(self, app):
        chord = Chord(app, 2)
        results = [app.AsyncResult(each) for each in chord.members]
        for index in range(2):
            chord.report(index)
        for _ in range(2):
            app.backend.apply_chord((chord.group_id, results), app.signature(dict(chord.body)))
            chord.bodies()

            self.complete(app, chord)

            assert chord.bodies() == [[[0, 1]]]

    @staticmethod
    def complete(app, chord):
        group = app.GroupResult(chord.group_id, [app.AsyncResult(each) for each in chord.members])
        request = Context(id=new_id(), group=chord.group_id, chord=dict(chord.body))
        chords.complete_once(app.backend, request, group)
