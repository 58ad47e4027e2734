"""What the stores at AWS do when AWS refuses, is slow, or is not there."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from pyqs_celery import Celery, states
from pyqs_celery.backends.backend import TRY_FOR_SECONDS
from pyqs_celery.exceptions import BackendGetMetaError, BackendStoreError, OperationalError, ResultTooLarge
from tests.support.aws import KEYS, ScriptedAws, refusal, xml_refusal
from tests.support.servers import free_port


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def aws() -> Iterator[ScriptedAws]:
    server = ScriptedAws()
    yield server
    server.close()


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def with_own_time(backend: Any) -> Time:
    time = Time()
    backend.clock, backend.sleep = time.clock, time.sleep
    return time


def dynamodb(endpoint: str, query: str = "", **settings: Any) -> Any:
    url = f"dynamodb://eu-west-1/results{query}"
    app = Celery("proj", broker="memory://", result_backend=url, set_as_current=False, **settings)
    app.conf.dynamodb_endpoint_url = endpoint
    return app.backend


def s3(endpoint: str, **settings: Any) -> Any:
    app = Celery("proj", broker="memory://", result_backend="s3://bucket/base/", set_as_current=False, **settings)
    app.conf.update(s3_endpoint_url=endpoint, s3_region="eu-west-1")
    return app.backend


BOTH = pytest.mark.parametrize("make", [dynamodb, s3], ids=["dynamodb", "s3"])


class TestUnreachable:
    @BOTH
    def test_storing_ends_in_bounded_time_with_the_tasks_id(self, make):
        backend = make(f"http://127.0.0.1:{free_port()}")
        time = with_own_time(backend)

        with pytest.raises(BackendStoreError, match=r"task some-id cannot be stored: .*Could not connect") as caught:
            backend.store_result("some-id", 1, states.SUCCESS)

        assert caught.value.task_id == "some-id"
        assert 1 < time.now <= TRY_FOR_SECONDS

    @BOTH
    def test_reading_too(self, make):
        backend = make(f"http://127.0.0.1:{free_port()}")
        time = with_own_time(backend)

        with pytest.raises(BackendGetMetaError, match="some-id"):
            backend.get_task_meta("some-id")

        assert time.now <= TRY_FOR_SECONDS

    @BOTH
    def test_a_server_that_does_not_answer_is_left(self, make):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            backend = make(f"http://127.0.0.1:{silent.getsockname()[1]}")
            backend.read_timeout = 0.1
            backend.clock = count(0, 4).__next__
            backend.sleep = lambda seconds: None

            with pytest.raises(BackendStoreError, match="ReadTimeoutError"):
                backend.store_result("some-id", 1, states.SUCCESS)

    def test_a_producer_of_chords_learns_of_it_as_of_any_outage(self):
        backend = dynamodb(f"http://127.0.0.1:{free_port()}")
        with_own_time(backend)

        with pytest.raises(OperationalError):
            backend.apply_chord(("group", [backend.app.AsyncResult("a")]), backend.app.signature("body"))


class TestPassingErrors:
    @pytest.mark.parametrize(
        "answer",
        [
            refusal("ProvisionedThroughputExceededException"),
            refusal("ThrottlingException"),
            refusal("InternalServerError", status=500),
            refusal("ExpiredTokenException"),
            (503, "busy"),
        ],
    )
    def test_dynamodb_is_asked_again(self, aws, answer):
        answers = iter([answer, answer, (200, {}), answer, (200, {}), (200, {})])
        aws.answer = lambda action, body: next(answers)
        backend = dynamodb(aws.endpoint)
        with_own_time(backend)

        backend.store_result("some-id", 1, states.SUCCESS)

        assert aws.seen == {"GetItem": 4, "PutItem": 2}

    @pytest.mark.parametrize("answer", [xml_refusal("SlowDown", status=503), xml_refusal("InternalError", status=500)])
    def test_s3_is_asked_again(self, aws, answer):
        answers = iter([answer, (200, '{"status": "SUCCESS", "result": 3}')])
        aws.answer = lambda action, body: next(answers)
        backend = s3(aws.endpoint)
        with_own_time(backend)

        assert backend.get_task_meta("some-id")["result"] == 3


class TestDenied:
    def test_dynamodb_names_table_and_action(self, aws):
        aws.answer = lambda action, body: refusal("AccessDeniedException", "User x is not authorized")
        backend = dynamodb(aws.endpoint)

        with pytest.raises(BackendStoreError) as caught:
            backend.store_result("some-id", 1, states.SUCCESS)

        for part in ("GetItem on DynamoDB table 'results'", "need dynamodb:GetItem", "User x is not authorized"):
            assert part in str(caught.value)
        assert aws.seen == {"GetItem": 1}

    def test_a_reader_gets_a_readers_error(self, aws):
        aws.answer = lambda action, body: refusal("AccessDeniedException")

        with pytest.raises(BackendGetMetaError, match="dynamodb:GetItem"):
            dynamodb(aws.endpoint).get_task_meta("some-id")

    def test_a_table_that_may_not_be_created_is_told_with_what_it_needs(self, aws):
        def answer(action: str, body: bytes) -> Any:
            return refusal("AccessDeniedException" if action == "CreateTable" else "ResourceNotFoundException")

        aws.answer = answer

        with pytest.raises(BackendStoreError, match=r"'results'.*does not exist.*dynamodb:CreateTable"):
            dynamodb(aws.endpoint).store_result("some-id", 1, states.SUCCESS)

    def test_a_table_that_is_there_needs_only_rights_to_its_items(self, aws):
        def answer(action: str, body: bytes) -> Any:
            return (200, {}) if action in ("GetItem", "PutItem") else refusal("AccessDeniedException")

        aws.answer = answer

        dynamodb(aws.endpoint).store_result("some-id", 1, states.SUCCESS)

        assert aws.seen == {"GetItem": 1, "PutItem": 1}

    def test_time_to_live_that_may_not_be_set_is_a_warning(self, aws, caplog):
        def answer(action: str, body: bytes) -> Any:
            return (200, {}) if action in ("GetItem", "PutItem") else refusal("AccessDeniedException")

        aws.answer = answer
        backend = dynamodb(aws.endpoint, "?ttl_seconds=60")

        backend.store_result("some-id", 1, states.SUCCESS)
        backend.store_result("other-id", 1, states.SUCCESS)

        warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert len(warnings) == 1
        assert "dynamodb:DescribeTimeToLive" in warnings[0]

    def test_s3_says_why_a_missing_object_may_be_denied(self, aws):
        aws.answer = lambda action, body: xml_refusal("AccessDenied")

        with pytest.raises(BackendGetMetaError) as caught:
            s3(aws.endpoint).get_task_meta("some-id")

        for part in ("S3 bucket 'bucket'", "s3:GetObject", "s3:ListBucket"):
            assert part in str(caught.value)

    def test_s3_says_that_there_is_no_such_bucket(self, aws):
        aws.answer = lambda action, body: xml_refusal("NoSuchBucket", status=404)

        with pytest.raises(BackendStoreError, match=r"'bucket'.*no such bucket; create it"):
            s3(aws.endpoint).store_result("some-id", 1, states.SUCCESS)

    @BOTH
    def test_keys_that_aws_does_not_know(self, make, aws):
        code = "UnrecognizedClientException" if make is dynamodb else "InvalidAccessKeyId"
        aws.answer = lambda action, body: (refusal if make is dynamodb else xml_refusal)(code)

        with pytest.raises(BackendGetMetaError, match=f"does not take these credentials.*{code}"):
            make(aws.endpoint).get_task_meta("some-id")

    @BOTH
    def test_no_credentials_at_all(self, make, aws, monkeypatch, tmp_path):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "BOTO_CONFIG"):
            monkeypatch.setenv(name, str(tmp_path / "none"))

        with pytest.raises(BackendGetMetaError, match="no AWS credentials were found"):
            make(aws.endpoint).get_task_meta("some-id")

    def test_no_region_at_all(self, aws, monkeypatch, tmp_path):
        monkeypatch.delenv("AWS_DEFAULT_REGION")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        app = Celery("proj", broker="memory://", result_backend="dynamodb:///t", set_as_current=False)

        with pytest.raises(BackendGetMetaError, match=r"set it in result_backend, dynamodb://<region>/<table>"):
            app.backend.get_task_meta("some-id")

    def test_an_endpoint_that_is_no_url(self):
        with pytest.raises(BackendGetMetaError, match="Invalid endpoint"):
            dynamodb("no url").get_task_meta("some-id")


class TestDynamoDBTable:
    def test_a_table_that_another_process_is_creating_is_waited_for(self, aws):
        looks = iter(["CREATING", "CREATING", "ACTIVE"])
        state = {"there": False}

        def answer(action: str, body: bytes) -> Any:
            if action == "CreateTable":
                return refusal("ResourceInUseException")
            if action == "DescribeTable":
                status = next(looks)
                state["there"] = status == "ACTIVE"
                return 200, {"Table": {"TableStatus": status}}
            return (200, {}) if state["there"] else refusal("ResourceNotFoundException")

        aws.answer = answer
        backend = dynamodb(aws.endpoint)
        time = with_own_time(backend)

        backend.store_result("some-id", 1, states.SUCCESS)

        assert (aws.seen["DescribeTable"], time.now) == (3, 2.0)

    def test_but_not_for_ever(self, aws):
        def answer(action: str, body: bytes) -> Any:
            if action == "DescribeTable":
                return 200, {"Table": {"TableStatus": "CREATING"}}
            return (200, {}) if action == "CreateTable" else refusal("ResourceNotFoundException")

        aws.answer = answer
        backend = dynamodb(aws.endpoint)
        time = with_own_time(backend)

        with pytest.raises(BackendStoreError, match="still not active"):
            backend.store_result("some-id", 1, states.SUCCESS)

        assert 60 <= time.now < 62

    @pytest.mark.parametrize(
        ("ttl", "status", "changed"),
        [
            (60, {"TimeToLiveStatus": "DISABLED"}, {"Enabled": True, "AttributeName": "ttl"}),
            (60, {"TimeToLiveStatus": "ENABLED", "AttributeName": "ttl"}, None),
            (60, {"TimeToLiveStatus": "ENABLING", "AttributeName": "ttl"}, None),
            (
                60,
                {"TimeToLiveStatus": "ENABLED", "AttributeName": "other"},
                {"Enabled": True, "AttributeName": "ttl"},
            ),
            (-1, {"TimeToLiveStatus": "DISABLED"}, None),
            (
                -1,
                {"TimeToLiveStatus": "ENABLED", "AttributeName": "other"},
                {"Enabled": False, "AttributeName": "other"},
            ),
        ],
    )
    def test_time_to_live_is_changed_only_where_it_is_not_as_wanted(self, aws, ttl, status, changed):
        seen = []

        def answer(action: str, body: bytes) -> Any:
            if action == "DescribeTimeToLive":
                return 200, {"TimeToLiveDescription": status}
            if action == "UpdateTimeToLive":
                seen.append(json.loads(body)["TimeToLiveSpecification"])
            return 200, {}

        aws.answer = answer

        dynamodb(aws.endpoint, f"?ttl_seconds={ttl}").get_task_meta("some-id")

        assert seen == ([changed] if changed else [])

    def test_without_ttl_seconds_time_to_live_is_not_asked_about(self, aws):
        aws.answer = lambda action, body: (200, {})

        dynamodb(aws.endpoint).get_task_meta("some-id")

        assert aws.seen == {"GetItem": 1}


class TestDynamoDBReads:
    def test_keys_that_were_not_processed_are_asked_for_again(self, aws):
        asked = []

        def answer(action: str, body: bytes) -> Any:
            keys = json.loads(body)["RequestItems"]["results"]["Keys"]
            asked.append(len(keys))
            now, later = keys[: len(keys) // 2 or 1], keys[len(keys) // 2 or 1 :]
            items = [{**key, "result": {"B": "eA=="}} for key in now]
            left = {"results": {"Keys": later, "ConsistentRead": True}} if later else {}
            return 200, {"Responses": {"results": items}, "UnprocessedKeys": left}

        aws.answer = answer
        backend = dynamodb(aws.endpoint)

        values = backend.mget([b"k%d" % number for number in range(130)] + [b"k0"])

        assert values == [b"x"] * 131
        assert asked == [100, 50, 25, 13, 7, 4, 2, 1, 30, 15, 8, 4, 2, 1]

    def test_a_table_without_capacity_is_an_error_in_bounded_time(self, aws):
        def answer(action: str, body: bytes) -> Any:
            return 200, {"Responses": {}, "UnprocessedKeys": json.loads(body)["RequestItems"]}

        aws.answer = answer
        backend = dynamodb(aws.endpoint)
        time = with_own_time(backend)

        with pytest.raises(BackendGetMetaError, match="no capacity to read 2 results"):
            backend.mget([b"a", b"b"])

        assert time.now < TRY_FOR_SECONDS + 3

    def test_reads_are_consistent(self, aws):
        seen = []

        def answer(action: str, body: bytes) -> Any:
            document = json.loads(body)
            seen.append(document.get("RequestItems", {}).get("results", document)["ConsistentRead"])
            return 200, {}

        aws.answer = answer
        backend = dynamodb(aws.endpoint)

        backend.get(b"a")
        backend.mget([b"a"])

        assert seen == [True, True]


class TestDynamoDBSizes:
    def test_a_result_over_400_kb_is_not_sent(self, aws):
        aws.answer = lambda action, body: (200, {})

        with pytest.raises(ResultTooLarge, match=r"task some-id is 4\d+ bytes and DynamoDBBackend takes 409600"):
            dynamodb(aws.endpoint).store_result("some-id", "x" * 409_600, states.SUCCESS)

        assert aws.seen == {"GetItem": 1}

    def test_one_of_just_400_kb_is(self, aws):
        aws.answer = lambda action, body: (200, {})
        backend = dynamodb(aws.endpoint)
        key = backend.get_key_for_task("some-id")
        room = 409_600 - len(repr(key)) - len("id" + "result" + "timestamp") - 21  # 21: a number, at most

        backend.set(key, b"x" * room)
        with pytest.raises(ResultTooLarge, match="is 409601 bytes"):
            backend.set(key, b"x" * (room + 1))

        assert aws.seen == {"PutItem": 1}

    def test_one_that_dynamodb_finds_too_large_is_told_the_same_way(self, aws):
        def answer(action: str, body: bytes) -> Any:
            if action == "GetItem":
                return 200, {}
            return refusal("ValidationException", "Item size has exceeded the maximum allowed size")

        aws.answer = answer

        with pytest.raises(ResultTooLarge, match="some-id"):
            dynamodb(aws.endpoint).store_result("some-id", 1, states.SUCCESS)

    def test_a_group_that_is_too_large_is_named(self, aws):
        backend = dynamodb(aws.endpoint)
        members = [backend.app.AsyncResult(f"{number:036}") for number in range(10_000)]

        with pytest.raises(ResultTooLarge, match=r"group some-group is .* fewer members"):
            backend.app.GroupResult("some-group", members).save()
