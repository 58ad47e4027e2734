"""Who may do what: policies by access key, and keys whose session has ended."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError


def code(call, **arguments):
    try:
        call(**arguments)
    except ClientError as exc:
        return exc.response["Error"]["Code"], exc.response["ResponseMetadata"]["HTTPStatusCode"]
    return "done", 200


DENIED, EXPIRED, DONE = ("AccessDenied", 403), ("ExpiredToken", 403), ("done", 200)


def test_a_key_that_is_named_may_do_what_its_policy_says_and_others_may_do_all(sqs, client_of):
    mine, other = sqs.create("emails-1"), sqs.create("other")
    sqs.policies(WORKER=[{"actions": ["ReceiveMessage", "DeleteMessage"], "queues": ["emails-*"]}])
    worker, nobody = client_of("WORKER"), client_of("SOMEBODY")
    assert code(worker.receive_message, QueueUrl=mine) == DONE
    assert code(worker.receive_message, QueueUrl=other) == DENIED
    assert code(worker.send_message, QueueUrl=mine, MessageBody="x") == DENIED
    assert code(nobody.send_message, QueueUrl=mine, MessageBody="x") == DONE
    assert sqs.stats()["refused AccessDenied SendMessage emails-1"] == 1


def test_the_permission_of_an_action_covers_its_batch_form(sqs, client_of):
    url = sqs.create("a")
    sqs.policies(PRODUCER=[{"actions": ["SendMessage"], "queues": ["a"]}])
    batch = [{"Id": "0", "MessageBody": "x"}]
    assert code(client_of("PRODUCER").send_message_batch, QueueUrl=url, Entries=batch) == DONE
    assert code(client_of("PRODUCER").delete_message_batch, QueueUrl=url, Entries=[]) == DENIED


def test_listing_queues_cannot_be_allowed_for_some_of_them(sqs, client_of):
    sqs.policies(A=[{"actions": ["ListQueues"], "queues": ["emails"]}], B=[{"actions": ["ListQueues"]}])
    assert code(client_of("A").list_queues) == DENIED
    assert code(client_of("B").list_queues) == DONE


def test_the_refusal_names_the_action_and_the_queue(sqs, client_of):
    url = sqs.create("a")
    sqs.policies(A=[])
    with pytest.raises(ClientError, match=r"sqs:PurgeQueue on resource: arn:aws:sqs:us-east-1:000000000000:a"):
        client_of("A").purge_queue(QueueUrl=url)


def test_an_expired_key_is_told_so_until_it_is_no_more(sqs, client_of):
    url = sqs.create("a")
    sqs.policies(OTHER=[])
    sqs.expire_keys("OLD")
    assert code(client_of("OLD").receive_message, QueueUrl=url) == EXPIRED
    assert code(client_of("NEW").receive_message, QueueUrl=url) == DONE
    sqs.expire_keys()
    assert code(client_of("OLD").receive_message, QueueUrl=url) == DONE
    assert code(client_of("OTHER").receive_message, QueueUrl=url) == DENIED
