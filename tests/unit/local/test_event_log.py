"""The embedded SQS's own log: what happened to messages, and which requests were struck by a fault."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError


def events(answer):
    return [(event, queue, detail) for _, event, queue, _, detail in answer["events"]]


def test_what_is_taken_from_the_log_is_gone_and_what_happens_next_is_kept(sqs):
    sqs.create("a")
    sqs.ask("eventlog", on=True)
    sqs.put("a", "one")

    assert events(sqs.ask("eventlog", take=True)) == [("send", "a", 0)]

    sqs.put("a", "two")
    assert events(sqs.ask("eventlog", take=True)) == [("send", "a", 0)]
    assert events(sqs.ask("eventlog")) == []


def test_a_request_that_a_fault_struck_is_in_the_log(sqs, client_of):
    url = sqs.create("a")
    sqs.ask("eventlog", on=True)
    sqs.faults({"kind": "500", "action": "SendMessage", "count": 1})

    with pytest.raises(ClientError):
        client_of().send_message(QueueUrl=url, MessageBody="x")

    assert events(sqs.ask("eventlog")) == [("fault", "a", "500 SendMessage")]
