"""Queue names as kombu writes them, patterns in the application's names, and what a worker finds behind both."""

from __future__ import annotations

import json

import pytest

from pyqs_celery.broker.client import SqsClient
from pyqs_celery.broker.config import BrokerConfig, broker_config
from pyqs_celery.broker.queues import (
    QueueDirectory,
    check_queue_name,
    common_prefix,
    dead_letter_name,
    looks_like_dead_letters,
    looks_private,
    matches,
    queue_info,
    sqs_queue_name,
)
from pyqs_celery.exceptions import InvalidRequest
from pyqs_celery.local.client import LocalClient


@pytest.mark.parametrize(
    ("logical", "prefix", "name"),
    [
        ("email.tasks.send", "", "email-tasks-send"),
        ("a_b-c", "", "a_b-c"),
        ("a:b@c/d", "", "a_b_c_d"),
        ("orders.new.fifo", "", "orders-new.fifo"),
        ("send", "prod.", "prod-send"),
        ("fifo", "", "fifo"),
    ],
)
def test_names(logical, prefix, name):
    assert sqs_queue_name(logical, prefix) == name


@pytest.mark.parametrize("logical", ["", "x" * 81, "café", "a b"])
def test_names_sqs_would_refuse_are_refused_here(logical):
    with pytest.raises(InvalidRequest):
        check_queue_name(logical)


@pytest.mark.parametrize(
    ("pattern", "name", "prefix", "wanted"),
    [
        ("email.*", "email-tasks-send", "", True),
        ("email.*", "emails", "", False),
        ("email-*", "email-tasks-send", "", True),
        ("email.*", "prod-email-send", "prod-", True),
        ("email.*", "email-send", "prod-", False),
        ("*", "orders.fifo", "", True),
        ("orders.*", "orders-new.fifo", "", True),
        ("orders.?", "orders-a", "", True),
        ("q[12]", "q2", "", True),
        ("q[12]", "q3", "", False),
    ],
)
def test_patterns(pattern, name, prefix, wanted):
    assert matches(pattern, name, prefix) is wanted


@pytest.mark.parametrize("name", ["a-dlq", "a_dlq", "a-dlq.fifo", "a-dead-letter", "a-deadletters", "A-DLQ"])
def test_dead_letter_queues_are_known_by_name(name):
    assert looks_like_dead_letters(name)
    assert not looks_like_dead_letters("adlq-work")


@pytest.mark.parametrize(
    ("name", "setting", "target"),
    [
        ("a", None, "a-dlq"),
        ("a.fifo", None, "a-dlq.fifo"),
        ("a", "all.dead", "all-dead"),
        ("a.fifo", "dead-{queue}", "dead-a.fifo"),
        ("a", False, None),
    ],
)
def test_where_dead_letters_go(name, setting, target):
    assert dead_letter_name(name, setting) == target


def test_list_queues_is_kept_short():
    assert common_prefix(["email-*", "email-tasks-?"]) == "email-"
    assert common_prefix(["*", "email-*"]) == ""
    assert common_prefix([]) == ""


@pytest.fixture
def local():
    return LocalClient()


def directory(local, **options):
    config = broker_config("sqs://", {"region": "us-east-1", **options}, {})
    return QueueDirectory(SqsClient(config, boto_client=local), config)


def names(found):
    return sorted(queue.name for queue in found.queues)


def test_exact_names_are_looked_up_and_never_listed(local):
    local.create_queue(QueueName="email-send", Attributes={"VisibilityTimeout": "77"})

    found = directory(local).find(["email.send", "absent"])

    assert [(queue.logical, queue.visibility_timeout_seconds) for queue in found.queues] == [("email.send", 77)]
    assert found.missing == ("absent",)


def test_patterns_skip_dead_letter_queues_by_name_and_by_policy(local):
    local.create_queue(QueueName="email-a")
    local.create_queue(QueueName="email-a-dlq")
    local.create_queue(QueueName="email-graveyard")
    arn = local.get_queue_attributes(
        QueueUrl=local.get_queue_url(QueueName="email-graveyard")["QueueUrl"], AttributeNames=["All"]
    )["Attributes"]["QueueArn"]
    local.create_queue(
        QueueName="email-b",
        Attributes={"RedrivePolicy": json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 4})},
    )

    found = directory(local).find(["email.*", "nothing.*"])

    assert names(found) == ["email-a", "email-b"]
    assert found.empty_patterns == ("nothing.*",)
    assert next(queue for queue in found.queues if queue.name == "email-b").redrive.max_receive_count == 4


def test_exclusions_in_both_ways(local):
    for name in ("email-a", "email-b", "email-c"):
        local.create_queue(QueueName=name)

    assert names(directory(local).find(["email.*", "!email.b"], ["email-c"])) == ["email-a"]


def test_missing_queues_are_made_when_told_as_kombu_makes_them(local):
    found = directory(local, visibility_timeout=120).find(["new", "new.fifo"], create=True)

    assert names(found) == ["new", "new.fifo"]
    assert {queue.visibility_timeout_seconds for queue in found.queues} == {120}


def test_predefined_queues_are_all_there_is(local):
    local.create_queue(QueueName="real")
    url = local.get_queue_url(QueueName="real")["QueueUrl"]
    found = directory(
        local,
        predefined_queues={"mine": {"url": url, "backoff_policy": {1: 10}, "backoff_tasks": ["a.b"]}},
    ).find(["mine", "other"])

    [queue] = found.queues
    assert (queue.name, queue.logical, queue.backoff_policy, queue.backoff_tasks) == ("real", "mine", {1: 10}, {"a.b"})
    assert found.missing == ("other",)


def test_two_queues_of_one_name_are_refused_rather_than_one_of_them_forgotten(local):
    local.create_queue(QueueName="shop")
    url = local.get_queue_url(QueueName="shop")["QueueUrl"]
    queues = {"here": {"url": url}, "there": {"url": "https://sqs.us-west-2.amazonaws.com/2/shop"}}

    with pytest.raises(InvalidRequest, match="same name"):
        directory(local, predefined_queues=queues).find(["here", "there"])


def test_what_a_server_leaves_out_is_taken_as_usual():
    info = queue_info("q", "http://localhost/1/q", "q", {})
    assert (info.visibility_timeout_seconds, info.max_message_size, info.redrive, info.arn) == (
        30,
        1_048_576,
        None,
        None,
    )
    assert queue_info("q", "u", "q", {"RedrivePolicy": json.dumps({"maxReceiveCount": 3})}).redrive is None


def test_a_config_shows_no_secret():
    config = broker_config("sqs://KEY:SECRET@", {}, {})
    assert "SECRET" not in repr(config)
    assert "SECRET" not in config.shown
    assert isinstance(config, BrokerConfig)


@pytest.mark.parametrize(
    "name",
    [
        "celery-box-celery-pidbox",
        "9a6d5c9e-6ca8-3ff1-a5d5-c3e2b1d0e5f1-reply-celery-pidbox",
        "celeryev-9a6d5c9e-6ca8-3ff1",
        "prod-celeryev-1",
    ],
)
def test_queues_of_remote_control_are_known_by_name(name):
    assert looks_private(name)


@pytest.mark.parametrize("name", ["celery", "celery-pidbox-work", "email-celery", "myceleryev-1"])
def test_other_names_are_nobodys_secret(name):
    assert not looks_private(name)
