"""Results in DynamoDB, as moto's server plays it."""

from __future__ import annotations

import base64
import json
import multiprocessing
import random
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from pyqs_celery import Celery, states
from pyqs_celery.backends.aws import Unavailable
from pyqs_celery.backends.dynamodb import DynamoDBBackend
from pyqs_celery.exceptions import BackendGetMetaError, ChordError, OperationalError
from tests.stores.contract import Chord, StoreContract, new_id
from tests.support.aws import KEYS, ScriptedAws, refusal


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


class Table:
    """A table of its own for a test, and boto3's client to look into it."""

    def __init__(self, server: Any) -> None:
        self.port = server.port
        self.name = f"results-{uuid.uuid4().hex[:12]}"
        self.client = server.client("dynamodb")

    def url(self, query: str = "") -> str:
        return f"dynamodb://@127.0.0.1:{self.port}/{self.name}{query}"

    def items(self) -> dict[str, dict[str, Any]]:
        found = self.client.scan(TableName=self.name)["Items"]
        return {item["id"]["S"]: item for item in found}


@pytest.fixture
def table(aws_server: Any) -> Table:
    return Table(aws_server)


class TestDynamoDB(StoreContract):
    @pytest.fixture
    def settings(self, table: Table) -> dict[str, Any]:
        return {"result_backend": table.url()}

    # -- the table ---------------------------------------------------------------------------------

    def test_the_table_is_made_when_it_is_needed_with_celerys_schema(self, make_app, table):
        app = make_app(result_backend=table.url("?read=3&write=4"))

        app.backend.store_result(new_id(), 1, states.SUCCESS)

        found = table.client.describe_table(TableName=table.name)["Table"]
        assert found["KeySchema"] == [{"AttributeName": "id", "KeyType": "HASH"}]
        assert found["AttributeDefinitions"] == [{"AttributeName": "id", "AttributeType": "S"}]
        throughput = found["ProvisionedThroughput"]
        assert (throughput["ReadCapacityUnits"], throughput["WriteCapacityUnits"]) == (3, 4)
        assert self.time_to_live(table)["TimeToLiveStatus"] == "DISABLED"

    @pytest.mark.parametrize("seconds", [60, 0])
    def test_time_to_live_is_turned_on_for_what_the_url_says(self, make_app, table, seconds):
        backend = make_app(result_backend=table.url(f"?ttl_seconds={seconds}")).backend
        backend.wall_clock = lambda: 1_000_000.5

        backend.store_result("some-id", 1, states.SUCCESS)

        found = self.time_to_live(table)
        assert (found["TimeToLiveStatus"], found["AttributeName"]) == ("ENABLED", "ttl")
        item = table.items()["b'celery-task-meta-some-id'"]
        assert (item["ttl"], item["timestamp"]) == ({"N": str(1_000_000 + seconds)}, {"N": "1000000.5"})

    def test_and_off_for_less_than_zero(self, make_app, table):
        make_app(result_backend=table.url("?ttl_seconds=60")).backend.get(b"x")

        make_app(result_backend=table.url("?ttl_seconds=-1")).backend.store_result("some-id", 1, states.SUCCESS)

        assert self.time_to_live(table)["TimeToLiveStatus"] == "DISABLED"
        assert "ttl" not in table.items()["b'celery-task-meta-some-id'"]

    @staticmethod
    def time_to_live(table):
        return table.client.describe_time_to_live(TableName=table.name)["TimeToLiveDescription"]

    def test_a_table_that_somebody_drops_is_made_again(self, backend, table):
        backend.store_result("some-id", 1, states.SUCCESS)
        table.client.delete_table(TableName=table.name)

        backend.store_result("other-id", 2, states.SUCCESS)

        assert list(table.items()) == ["b'celery-task-meta-other-id'"]

    # -- items -------------------------------------------------------------------------------------

    def test_an_item_is_celerys(self, backend, table):
        backend.store_result("some-id", {"a": 1}, states.SUCCESS)

        (item,) = table.items().values()
        assert set(item) == {"id", "result", "timestamp"}
        assert item["id"] == {"S": "b'celery-task-meta-some-id'"}
        assert json.loads(item["result"]["B"])["result"] == {"a": 1}
        assert abs(float(item["timestamp"]["N"]) - time.time()) < 60

    def test_a_key_with_a_quote_is_what_python_makes_of_it(self, backend, table):
        backend.store_result("it's", 1, states.SUCCESS)

        assert list(table.items()) == ['b"celery-task-meta-it\'s"']
        assert backend.get_task_meta("it's")["result"] == 1

    def test_a_key_prefix_is_part_of_it(self, make_app, table):
        app = make_app(result_backend_transport_options={"global_keyprefix": "shop"})

        app.backend.store_result("some-id", 1, states.SUCCESS)

        assert list(table.items()) == ["b'shop_celery-task-meta-some-id'"]

    def test_items_of_somebody_else_are_no_results(self, app, backend, table):
        backend.get(b"x")
        counter, text, number = new_id(), new_id(), new_id()
        for task_id, attributes in (
            (counter, {"chord_count": {"N": "3"}}),
            (text, {"result": {"S": "no json"}}),
            (number, {"result": {"N": "3"}}),
        ):
            item = {"id": {"S": f"b'celery-task-meta-{task_id}'"}, **attributes}
            table.client.put_item(TableName=table.name, Item=item)

        assert app.AsyncResult(counter).state == app.AsyncResult(number).state == states.PENDING
        with pytest.raises(BackendGetMetaError, match=text):
            _ = app.AsyncResult(text).state

    def test_many_are_read_in_few_requests(self, make_app, table, aws_server, backend):
        ids = [new_id() for _ in range(150)]
        for number, task_id in enumerate(ids):
            backend.set(backend.get_key_for_task(task_id), json.dumps({"status": "SUCCESS", "result": number}))
        aws = ScriptedAws(aws_server.endpoint)
        app = make_app(dynamodb_endpoint_url=aws.endpoint)
        try:
            group = app.GroupResult(new_id(), [app.AsyncResult(task_id) for task_id in (*ids, ids[0])])

            assert group.get(timeout=20) == [*range(150), 0]
        finally:
            aws.close()
        assert aws.seen == {"BatchGetItem": 2}

    # -- marks -------------------------------------------------------------------------------------

    def test_a_mark_holds_for_its_time_though_dynamodb_has_not_dropped_it(self, backend):
        now = [1000.0]
        backend.wall_clock = lambda: now[0]

        assert backend.add(b"mark", "one", 5)
        now[0] += 4.9
        assert not backend.add(b"mark", "two", 5)
        now[0] += 0.2
        assert backend.add(b"mark", "three", 5)

        assert backend.get(b"mark") == b"three"

    def test_of_many_who_add_a_mark_at_once_one_does(self, backend):
        backend.get(b"x")
        won, start = [], threading.Barrier(8)

        def add(name: int) -> None:
            start.wait(30)
            if backend.add(b"mark", str(name), 60):
                won.append(str(name).encode())

        run_all([threading.Thread(target=add, args=(name,)) for name in range(8)])

        assert won == [backend.get(b"mark")]

    # -- chords ------------------------------------------------------------------------------------

    def test_the_counter_is_celerys(self, chord, table):
        key = f"b'chord-unlock-{chord.group_id}'"
        before = table.items()[key]

        chord.report(2)
        after = table.items()[key]

        assert (before["chord_count"], after["chord_count"]) == ({"N": "0"}, {"N": "1"})
        assert "timestamp" in after

    def test_celerys_members_are_counted_by_theirs_and_ours(self, chord, table):
        for member in chord.members[:2]:  # two run at Celery's workers, which add one and look at the sum
            chord.app.backend.store_result(member, member, states.SUCCESS)
            table.client.update_item(
                TableName=table.name,
                Key={"id": {"S": f"b'chord-unlock-{chord.group_id}'"}},
                UpdateExpression="set chord_count = chord_count + :num",
                ExpressionAttributeValues={":num": {"N": "1"}},
            )
        chord.report(2)
        before = chord.bodies()
        chord.report(3)

        assert before == []
        assert chord.bodies() == [[[*chord.members[:2], 2, 3]]]

    def test_a_chord_of_celerys_producer_is_counted(self, app, table):
        chord = Chord(app, 2)
        backend = app.backend
        app.GroupResult(chord.group_id, [app.AsyncResult(each) for each in chord.members]).save()
        counter = {"id": {"S": f"b'chord-unlock-{chord.group_id}'"}, "chord_count": {"N": "0"}, "timestamp": {"N": "1"}}
        table.client.put_item(TableName=table.name, Item=counter)

        chord.report(0)
        chord.report(0)
        before = chord.bodies()
        chord.report(1)

        assert before == []
        assert chord.bodies() == [[[0, 1]]]
        assert backend.restore_group(chord.group_id) is None

    def test_a_chord_leaves_nothing_but_results_and_the_mark_that_it_is_done(self, make_app, table):
        app = make_app(result_backend=table.url("?ttl_seconds=600"))
        chord = Chord(app, 3).begin()
        assert "ttl" in table.items()[f"b'chord-unlock-{chord.group_id}'"]

        for index in (0, 1, 2, 2, 0):
            chord.report(index)

        mark = f"b'chord-unlock-{chord.group_id}.c'"
        assert set(table.items()) == {mark, *(f"b'celery-task-meta-{member}'" for member in chord.members)}
        left = int(table.items()[mark]["ttl"]["N"]) - time.time()
        assert 86_300 < left < 86_500

    def test_a_member_but_the_last_costs_one_write(self, make_app, table, aws_server):
        aws = ScriptedAws(aws_server.endpoint)
        app = make_app(dynamodb_endpoint_url=aws.endpoint)
        chord = Chord(app, 3).begin()
        aws.seen.clear()
        try:
            app.backend.on_chord_part_return(chord.request(0), states.SUCCESS, 0)
        finally:
            aws.close()

        assert aws.seen == {"UpdateItem": 1}

    def test_a_member_whose_answer_was_lost_is_counted_once(self, make_app, table, aws_server, chord):
        aws = ScriptedAws(aws_server.endpoint)
        lost = iter([True, True])

        def answer(action: str, body: bytes) -> Any:
            if action == "UpdateItem" and next(lost, False):
                aws._pass_on("POST", "/", {"X-Amz-Target": f"DynamoDB_20120810.{action}", **SIGNED}, body)
                return 500, {"__type": "InternalServerError"}
            return None

        aws.answer = answer
        unlucky = make_app(dynamodb_endpoint_url=aws.endpoint)
        try:
            for index in range(4):
                chord.report(index, app=unlucky)
        finally:
            aws.close()

        assert chord.bodies() == [[[0, 1, 2, 3]]]

    def test_a_chord_whose_group_is_gone_fails_its_body(self, chord, app):
        chord.report(0)
        app.backend.delete_group(chord.group_id)
        app.backend.delete(app.backend.get_key_for_chord(chord.group_id))

        chord.report(1)

        body = app.AsyncResult(chord.body_id)
        assert isinstance(body.result, ChordError)
        assert "no longer exists" in str(body.result)

    def test_but_not_if_the_body_has_run(self, chord, app):
        chord.report(0)
        app.backend.delete_group(chord.group_id)
        app.backend.delete(app.backend.get_key_for_chord(chord.group_id))
        app.backend.mark_as_started(chord.body_id)

        chord.report(1)

        assert app.AsyncResult(chord.body_id).state == states.STARTED

    def test_who_died_between_call_and_mark_is_made_up_for_without_a_second_call(self, make_app, chord, aws_server):
        """The body has been called, and has begun; its caller was killed before it could say so."""
        aws = ScriptedAws(aws_server.endpoint)

        def answer(action: str, body: bytes) -> Any:
            is_mark = action == "PutItem" and b'"ZG9uZQ=="' in body
            return refusal("AccessDeniedException") if is_mark else None

        aws.answer = answer
        dying = make_app(dynamodb_endpoint_url=aws.endpoint)
        for index in range(3):
            chord.report(index)
        try:
            with pytest.raises(Exception, match="dynamodb:PutItem"):
                chord.report(3, app=dying)
        finally:
            aws.close()
        chord.app.backend.mark_as_started(chord.body_id)
        chord.app.backend.wall_clock = lambda: time.time() + 60  # its claim has run out

        chord.report(3)

        assert chord.bodies() == [[[0, 1, 2, 3]]]
        assert chord.app.backend._chord_is_done(chord.group_id)

    @pytest.mark.parametrize("victim", [1, 3], ids=["one", "the last"])
    @pytest.mark.parametrize("has_effect", [False, True], ids=["before", "after"])
    def test_a_worker_may_die_at_any_call(self, make_app, table, victim, has_effect):
        healthy = make_app()
        dying = make_app(result_backend=MortalBackend, dynamodb_endpoint_url=f"http://127.0.0.1:{table.port}")
        dying.backend.table_name = table.name
        calls = 0
        for calls in range(1, 30):
            chord = Chord(healthy, 4).begin()
            for index in range(victim):
                chord.report(index)
            dying.backend.lives_for(calls, has_effect)
            try:
                chord.report(victim, app=dying)
            except Killed:
                died = True
            else:
                died = False
            found = chord.bodies()
            if found:
                healthy.backend.mark_as_started(chord.body_id)

            healthy.backend.wall_clock = lambda: time.time() + 60  # the claim of who died has run out
            for index in range(victim, 4):
                chord.report(index)
            del healthy.backend.wall_clock

            assert [*found, *chord.bodies()] == [[[0, 1, 2, 3]]], f"died at call {calls}"
            if not died:
                break
        assert calls > (3 if victim == 1 else 8)

    def test_two_claims_and_the_late_one_leaves_the_others_alone(self, chord):
        backend = chord.app.backend
        now = [1000.0]
        backend.wall_clock = lambda: now[0]
        assert backend.claim_chord(chord.group_id, "slow", 5) == "won"
        now[0] += 6
        assert backend.claim_chord(chord.group_id, "other", 5) == "won"

        backend.drop_chord_claim(chord.group_id, "slow")

        assert backend.claim_chord(chord.group_id, "third", 5) == "held"


class Killed(BaseException):
    """What a process feels of kill -9."""


class MortalBackend(DynamoDBBackend):
    """A worker's that dies at one of its calls, which may have had its effect."""

    def lives_for(self, calls: int, has_effect: bool) -> None:
        self._left, self._has_effect = calls, has_effect

    def call(self, action: str, read: Any = None, /, **request: Any) -> Any:
        self._left -= 1
        if self._left < 0 or (self._left == 0 and not self._has_effect):
            raise Killed
        answer = super().call(action, read, **request)
        if self._left == 0:
            raise Killed
        return answer


SIGNED = {
    "Content-Type": "application/x-amz-json-1.0",
    "Authorization": "AWS4-HMAC-SHA256 Credential=test/20300101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, "
    "Signature=0",
}


def run_all(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


def report_some(url: str, broker: str, chord: tuple[str, list[str], str], indices: list[int]) -> None:
    """A worker's process whose threads end members of a chord, some of them again and again."""
    app = Celery("proj", broker=broker, result_backend=url, set_as_current=False)
    mine = Chord(app, 0)
    mine.group_id, mine.members, mine.body_id = chord
    mine.body["options"]["task_id"] = mine.body_id
    for part in range(2):
        for index in indices[part::2]:
            mine.report(index)


class TestLargeChord:
    @pytest.fixture
    def app(self, table: Table, sqs: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        for name, value in sqs.environment.items():
            monkeypatch.setenv(name, value)
        app = Celery("proj", broker="sqs://", result_backend=table.url(), set_as_current=False)
        yield app
        app.close()

    def test_500_members_that_report_again_and_again_from_everywhere_call_the_body_once(self, app, table, sqs):
        size, processes = 500, 4
        sqs.create("bodies")
        chord = Chord(app, size).begin()
        rng = random.Random(7)
        reports = [*range(size), *rng.sample(range(size), 100)]
        rng.shuffle(reports)
        facts = (chord.group_id, chord.members, chord.body_id)

        fork = multiprocessing.get_context("spawn")
        workers = [
            fork.Process(target=report_some, args=(table.url(), "sqs://", facts, reports[number::processes]))
            for number in range(processes)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(100)

        assert [worker.exitcode for worker in workers] == [0] * processes
        (body,) = sqs.bodies("bodies")
        assert body_values(body) == list(range(size))


def body_values(body: str) -> list[Any]:
    envelope = json.loads(base64.b64decode(body))
    (values,), _, _ = json.loads(base64.b64decode(envelope["body"]))
    return values


def test_unavailable_is_an_outage_for_who_catches_those_of_the_broker():
    assert issubclass(Unavailable, OperationalError)
