"""Sending: checked before the call, in tens, bounded, and told which entries failed."""

from __future__ import annotations

import asyncio
import re

import pytest

from pyqs_celery.broker.client import SqsClient
from pyqs_celery.broker.config import broker_config
from pyqs_celery.broker.delivery import Outgoing
from pyqs_celery.broker.publisher import Budget, Publisher, hasty
from pyqs_celery.exceptions import (
    BrokerUnavailable,
    InvalidRequest,
    MessageTooLarge,
    OperationalError,
    QueueDoesNotExist,
)
from pyqs_celery.local.client import LocalClient


class Counting:
    """A client that counts calls and fails those that it is told to."""

    def __init__(self):
        self.real = LocalClient()
        self.calls = []
        self.failures = {}

    def __getattr__(self, name):
        def call(**request):
            self.calls.append(name)
            if self.failures.get(name, 0) > 0:
                self.failures[name] -= 1
                raise ConnectionError("no route")
            return getattr(self.real, name)(**request)

        return call


@pytest.fixture
def boto():
    return Counting()


@pytest.fixture
def naps():
    return []


@pytest.fixture
def publisher(boto, naps):
    config = broker_config("sqs://", {"region": "us-east-1"}, {})
    clock = [0.0]

    def sleep(seconds):
        naps.append(seconds)
        clock[0] += seconds

    made = Publisher(config, client=SqsClient(config, boto_client=boto), clock=lambda: clock[0], sleep=sleep)
    yield made
    made.close()


def test_the_queue_is_made_and_looked_up_once(publisher, boto):
    for _ in range(3):
        publisher.send(Outgoing("email.send", "x"))

    assert boto.calls.count("get_queue_url") == 1
    assert boto.calls.count("create_queue") == 1
    assert boto.calls.count("send_message") == 3


def test_a_producer_that_may_not_create_says_so(boto):
    config = broker_config("sqs://", {}, {})
    publisher = Publisher(config, client=SqsClient(config, boto_client=boto), create_missing=False)

    with pytest.raises(QueueDoesNotExist, match="task_create_missing_queues"):
        publisher.send(Outgoing("absent", "x"))


def test_a_batch_costs_a_request_for_ten(publisher, boto):
    with publisher.batch():
        for number in range(25):
            assert publisher.send(Outgoing("q", str(number))) is None

    assert boto.calls.count("send_message_batch") == 3
    assert boto.calls.count("send_message") == 0


@pytest.mark.parametrize("way", ["one", "a batch"])
def test_a_queue_that_was_deleted_meanwhile_is_made_again(publisher, boto, way):
    # given a queue that has been sent to, and is deleted
    publisher.send(Outgoing("q", "before"))
    boto.real.delete_queue(QueueUrl=boto.real.get_queue_url(QueueName="q")["QueueUrl"])

    # when more is sent, in either way
    for turn in range(2):
        if way == "one":
            publisher.send(Outgoing("q", f"after {turn}"))
        else:
            with publisher.batch():
                publisher.send(Outgoing("q", f"after {turn}"))

    # then it is there again and has both
    url = boto.real.get_queue_url(QueueName="q")["QueueUrl"]
    found = boto.real.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    assert {message["Body"] for message in found} == {"after 0", "after 1"}
    assert boto.calls.count("create_queue") == 2


def test_nothing_of_a_batch_is_sent_if_its_block_fails(publisher, boto):
    def block():
        with publisher.batch():
            publisher.send(Outgoing("q", "x"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        block()

    assert boto.calls == []


def test_large_messages_make_smaller_batches(publisher, boto):
    with publisher.batch():
        for _ in range(4):
            publisher.send(Outgoing("q", "x" * 400_000))

    assert boto.calls.count("send_message_batch") == 2


def test_troubles_are_retried_within_a_budget(publisher, boto, naps):
    publisher.url("q")
    boto.failures["send_message"] = 2
    publisher.send(Outgoing("q", "x"))
    assert len(naps) == 2

    boto.failures["send_message"] = 10_000
    with pytest.raises(BrokerUnavailable) as caught:
        publisher.send(Outgoing("q", "x"))
    assert isinstance(caught.value, OperationalError)
    assert sum(naps) <= 11


@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.0, 3.0, 4.0, 10.0])
def test_a_first_send_makes_its_three_calls_within_a_budget_of_any_size(boto, seconds):
    # given an SQS that takes a tenth of the budget for each answer, and a queue that is not there yet
    config = broker_config("sqs://", {"region": "us-east-1"}, {})
    client = SqsClient(config, boto_client=boto)
    publisher = Publisher(config, client=client, budget_seconds=seconds, clock=lambda: len(boto.calls) * seconds / 10)

    publisher.send(Outgoing("q", "x"))

    assert boto.calls == ["get_queue_url", "create_queue", "send_message"]


@pytest.mark.parametrize("seconds", [1.2, 2.0, 3.0, 6.0, 10.0])
def test_what_is_begun_last_still_ends_in_time(seconds):
    now = 0.0
    budget = Budget(seconds, None, lambda: now)
    budget.may_be_patient()

    now = seconds - hasty(seconds).total - 0.001
    assert not budget.may_be_patient()
    now += 0.002
    with pytest.raises(BrokerUnavailable):
        budget.may_be_patient()


def test_a_message_over_the_queues_size_is_refused_before_it_is_sent(publisher, boto):
    boto.real.create_queue(QueueName="usual", Attributes={"MaximumMessageSize": "262144"})

    with pytest.raises(MessageTooLarge) as caught:
        publisher.send(Outgoing("usual", "x" * 300_000))

    assert (caught.value.size, caught.value.limit) == (300_000, 262_144)
    assert "send_message" not in boto.calls


def test_a_queue_that_takes_even_less_refuses_by_itself(publisher, boto):
    boto.real.create_queue(QueueName="small", Attributes={"MaximumMessageSize": "2048"})

    with pytest.raises(MessageTooLarge):
        publisher.send(Outgoing("small", "x" * 3000))


@pytest.mark.parametrize(
    "message",
    [
        Outgoing("q", "x", delay_seconds=901),
        Outgoing("q", "x", delay_seconds=-1),
        Outgoing("q.fifo", "x", delay_seconds=5, group_id="g"),
        Outgoing("q", "a\x00b"),
        Outgoing("q", ""),
        Outgoing("q", "x", attributes={str(n): {"DataType": "String", "StringValue": "v"} for n in range(11)}),
        Outgoing("café", "x"),
    ],
    ids=["over 900", "negative", "delay on FIFO", "control character", "empty", "eleven attributes", "name"],
)
def test_what_sqs_would_refuse_is_refused_here(publisher, boto, message):
    with pytest.raises(InvalidRequest):
        publisher.send(message)

    assert not {"send_message", "send_message_batch"} & set(boto.calls)


@pytest.mark.parametrize(
    "message",
    [
        Outgoing("q", b"bytes"),
        Outgoing("q", None),
        Outgoing("q", "x", attributes={"tenant": "a"}),
        Outgoing("q", "x", attributes={"tenant": {"StringValue": "a"}}),
        Outgoing("q", "x", attributes={"tenant": {"DataType": "Number", "StringValue": 3}}),
        Outgoing("q", "x", attributes={"tenant": {"DataType": "Binary", "BinaryValue": 3}}),
        Outgoing("q", "x", attributes={"tenant": {"DataType": "String"}}),
        Outgoing("q", "x", attributes={3: {"DataType": "String", "StringValue": "a"}}),
    ],
)
def test_what_botocore_would_refuse_is_refused_here_since_it_is_told_not_to_look(publisher, boto, message):
    with pytest.raises(InvalidRequest, match="'q'"):
        publisher.send(message)

    assert boto.calls == []


def test_whole_message_attributes_are_sent(publisher, boto):
    attributes = {
        "tenant": {"DataType": "String.label", "StringValue": "a"},
        "key": {"DataType": "Binary", "BinaryValue": b"\0"},
    }

    publisher.send(Outgoing("q", "x", attributes=attributes))

    assert boto.calls[-1] == "send_message"


def test_an_asyncio_task_that_outlives_a_block_it_began_in_sends_on_its_own(publisher, boto):
    async def later(over):
        publisher.send(Outgoing("q", "inside"))
        await over.wait()
        publisher.send(Outgoing("q", "after"))

    async def main():
        over = asyncio.Event()
        with publisher.batch():
            task = asyncio.create_task(later(over))
            await asyncio.sleep(0)
        inside = list(boto.calls)
        over.set()
        await task
        return inside

    assert asyncio.run(main())[-1:] == ["send_message_batch"]
    assert boto.calls[-2:] == ["send_message_batch", "send_message"]


def test_an_asyncio_task_beside_a_block_is_not_held_up_by_it(publisher, boto):
    publisher.url("q")

    async def beside(begun):
        await begun.wait()
        publisher.send(Outgoing("q", "beside"))

    async def main():
        begun = asyncio.Event()
        task = asyncio.create_task(beside(begun))
        with publisher.batch():
            publisher.send(Outgoing("q", "inside"))
            begun.set()
            await task
            assert boto.calls[-1] == "send_message"

    asyncio.run(main())
    assert boto.calls[-2:] == ["send_message", "send_message_batch"]


@pytest.mark.parametrize(
    ("application", "agent"), [(None, r"pyqs-celery/\S+ Botocore/\S+ Python/\S+"), ("shop", ".* app/shop")]
)
def test_requests_name_their_sender_and_the_application_where_that_has_a_name(monkeypatch, application, agent):
    if application:
        monkeypatch.setenv("AWS_SDK_UA_APP_ID", application)
    else:
        monkeypatch.delenv("AWS_SDK_UA_APP_ID", raising=False)
    client = SqsClient(broker_config("sqs://key:secret@", {"region": "us-east-1"}, {}))._client()

    assert re.fullmatch(agent, client.meta.config.user_agent)


def test_a_user_agent_of_the_users_own_stays():
    options = {"region": "us-east-1", "client-config": {"user_agent": "mine/1"}}
    client = SqsClient(broker_config("sqs://key:secret@", options, {}))._client()

    assert client.meta.config.user_agent == "mine/1"


@pytest.mark.parametrize(
    "told", [{}, {"Successful": None, "Failed": None}, {"Successful": [{"Id": "0", "MessageId": "m"}]}]
)
def test_entries_of_which_an_answer_says_nothing_are_sent_again_by_themselves(publisher, boto, told):
    # given an answer to a batch that leaves entries out
    publisher.send(Outgoing("q", "before"))
    boto.real.send_message_batch = lambda **_: told

    # when three are sent
    with publisher.batch():
        for number in range(3):
            publisher.send(Outgoing("q", str(number)))

    # then those that it did not name as taken went again, each by a call of its own
    assert boto.calls.count("send_message_batch") == 1
    assert boto.calls.count("send_message") == 1 + (2 if told.get("Successful") else 3)
