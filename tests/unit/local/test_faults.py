"""Each way in which the embedded SQS can fail on request, as a client of it sees it."""

from __future__ import annotations

import time

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from pyqs_celery.local.faults import Fault


def entries(*ids):
    return [{"Id": each, "MessageBody": each} for each in ids]


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("500", 500, "InternalFailure"),
        ("503", 503, "ServiceUnavailable"),
        ("throttle", 400, "RequestThrottled"),
        ("403", 403, "AccessDenied"),
        ("expired", 403, "ExpiredToken"),
        ("missing", 400, "AWS.SimpleQueueService.NonExistentQueue"),
    ],
)
def test_errors_are_answered_in_the_words_of_aws_and_nothing_is_done(sqs, client_of, kind, status, code):
    url = sqs.create("a")
    sqs.faults({"kind": kind, "action": "SendMessage", "queue": "a"})
    with pytest.raises(ClientError) as caught:
        client_of().send_message(QueueUrl=url, MessageBody="x")
    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert sqs.left("a") == 0
    sqs.no_faults()
    client_of().send_message(QueueUrl=url, MessageBody="x")
    assert sqs.left("a") == 1


def test_a_rule_holds_for_its_queue_and_action_and_as_often_as_it_says(sqs, client_of):
    a, b = sqs.create("a"), sqs.create("b")
    sqs.faults({"kind": "500", "action": "SendMessage", "queue": "a", "count": 1})
    client = client_of()
    client.send_message(QueueUrl=b, MessageBody="x")
    client.receive_message(QueueUrl=a)
    with pytest.raises(ClientError):
        client.send_message(QueueUrl=a, MessageBody="x")
    client.send_message(QueueUrl=a, MessageBody="x")
    assert sqs.stats()["fault_500"] == 1


def test_a_kind_that_is_unknown_is_refused(sqs):
    with pytest.raises(ValueError, match="no such kind of fault: slow"):
        Fault.from_json({"kind": "slow"}, 0.0)


def test_a_reset_comes_before_the_work_and_reset_after_comes_after_it(sqs, client_of):
    url = sqs.create("a")
    sqs.faults({"kind": "reset", "count": 1}, {"kind": "reset_after", "count": 1})
    for left in (0, 1):
        with pytest.raises(ConnectionClosedError):
            client_of().send_message(QueueUrl=url, MessageBody="x")
        assert sqs.left("a") == left


def test_reset_after_loses_the_answer_to_a_long_poll_that_had_to_wait(sqs, client_of):
    url = sqs.create("a")
    sqs.faults({"kind": "reset_after", "action": "ReceiveMessage", "count": 1})
    with pytest.raises(ConnectionClosedError):
        client_of(read_timeout=10).receive_message(QueueUrl=url, WaitTimeSeconds=1)


def test_a_black_hole_never_answers(sqs, client_of):
    url = sqs.create("a")
    sqs.faults({"kind": "timeout", "count": 1})
    with pytest.raises(ReadTimeoutError):
        client_of(read_timeout=0.3).send_message(QueueUrl=url, MessageBody="x")
    assert sqs.left("a") == 0


def test_a_slow_body_is_complete_in_the_end_though_no_read_of_it_times_out(sqs, client_of):
    url = sqs.create("a")
    sqs.put("a", "x" * 100)
    sqs.faults({"kind": "slow_body", "action": "ReceiveMessage", "body_seconds": 1.5})
    began = time.monotonic()
    [message] = client_of(read_timeout=1).receive_message(QueueUrl=url)["Messages"]
    assert message["Body"] == "x" * 100
    assert time.monotonic() - began > 1.2


def test_entries_that_fail_are_not_done_and_the_others_are(sqs, client_of):
    url = sqs.create("a")
    sqs.faults({"kind": "partial", "entries": [1], "code": "ServiceUnavailable", "sender_fault": True})
    answer = client_of().send_message_batch(QueueUrl=url, Entries=entries("a", "b", "c"))
    assert [each["Id"] for each in answer["Successful"]] == ["a", "c"]
    assert [(each["Id"], each["Code"], each["SenderFault"]) for each in answer["Failed"]] == [
        ("b", "ServiceUnavailable", True)
    ]
    assert sorted(sqs.bodies("a")) == ["a", "c"]


def test_all_entries_may_fail_and_single_calls_are_spared(sqs, client_of):
    url = sqs.create("a")
    sqs.faults({"kind": "partial"})
    answer = client_of().send_message_batch(QueueUrl=url, Entries=entries("a", "b"))
    assert [each["Id"] for each in answer["Failed"]] == ["a", "b"]
    assert "Successful" not in answer
    client_of().send_message(QueueUrl=url, MessageBody="single")
    assert sqs.bodies("a") == ["single"]


def test_partial_after_says_that_entries_failed_which_are_done(sqs, client_of):
    url = sqs.create("a")
    sqs.faults({"kind": "partial_after", "entries": [0]})
    answer = client_of().send_message_batch(QueueUrl=url, Entries=entries("a", "b"))
    assert [each["Id"] for each in answer["Failed"]] == ["a"]
    assert [each["Id"] for each in answer["Successful"]] == ["b"]
    assert sqs.bodies("a") == ["a", "b"]
