"""What the client makes of answers that SQS would not give: of a proxy, another service, or an emulator with gaps."""

from __future__ import annotations

import time
from typing import Any

import pytest

from pyqs_celery.broker.client import SqsClient
from pyqs_celery.broker.config import BrokerConfig
from pyqs_celery.broker.delivery import Outgoing, QueueInfo
from pyqs_celery.exceptions import BrokerUnavailable
from pyqs_celery.utils.log import Troubles
from pyqs_celery.worker.acker import Acker
from pyqs_celery.worker.core.values import Ack, Extend
from pyqs_celery.worker.keeper import Keeper
from pyqs_celery.worker.receiver import EMPTY_APART_SECONDS, Receiver
from tests.support.waiting import until

URL = "http://sqs/1/emails"
QUEUE = QueueInfo("emails", URL, "emails")
MESSAGE = {"MessageId": "m", "ReceiptHandle": "h", "Body": "b"}


class Answers:
    """A client of botocore's for somebody who answers every call with the same."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.calls = answer, []

    def __getattr__(self, action: str) -> Any:
        def call(**request: Any) -> Any:
            self.calls.append(action)
            return self.answer

        return call


class AtOnce:
    """Threads that make a call where it is asked for, and hand on what it brings. ``brought`` is all of that."""

    def __init__(self) -> None:
        self.brought: list[Any] = []

    def ask(self, call: Any, then: Any, **_: Any) -> None:
        self.brought.append(call())
        then(self.brought[-1], 0.0)


def receiver_of(answers: Answers, on_polled: Any) -> Receiver:
    client = SqsClient(BrokerConfig(), boto_client=answers)
    return Receiver(client, QUEUE, lease_seconds=30, wait_seconds=0, on_polled=on_polled, troubles=Troubles())


def client_of(answer: Any) -> SqsClient:
    return SqsClient(BrokerConfig(), boto_client=Answers(answer))


def receive(client: SqsClient) -> Any:
    return client.receive(QUEUE, count=10, wait_seconds=0, visibility_seconds=30, clock=time.time)


@pytest.mark.parametrize(
    ("call", "answer", "action"),
    [
        (receive, {"Messages": [{"Body": "no id"}]}, "ReceiveMessage on emails"),
        (receive, {"Messages": "many"}, "ReceiveMessage on emails"),
        (receive, {"Messages": [{**MESSAGE, "Attributes": {"ApproximateReceiveCount": "x"}}]}, "ReceiveMessage"),
        (lambda client: client.delete_batch(QUEUE, [("0", "h")]), {"Successful": [{}]}, "DeleteMessage on emails"),
        (lambda client: client.delete_batch(QUEUE, [("0", "h")]), {"Failed": ["0"]}, "DeleteMessage on emails"),
        (lambda client: client.change_visibility_batch(QUEUE, [("0", "h", 1)]), {"Failed": 1}, "ChangeMessage"),
        (lambda client: client.send(URL, Outgoing("emails", "b")), {}, "SendMessage on emails"),
        (lambda client: client.send_batch(URL, [("0", Outgoing("emails", "b"))]), {"Failed": [{}]}, "SendMessage"),
        (lambda client: client.queue_url("emails"), {"message": "Hello"}, "GetQueueUrl on emails"),
        (lambda client: client.queue_url("emails"), {"QueueUrl": None}, "GetQueueUrl on emails"),
        (receive, {"Messages": [{**MESSAGE, "Body": None}]}, "ReceiveMessage on emails"),
        (lambda client: client.send(URL, Outgoing("emails", "b")), {"MessageId": None}, "SendMessage on emails"),
        (lambda client: client.create_queue("emails", {}), {}, "CreateQueue on emails"),
        (lambda client: client.queue_attributes(URL, "emails"), {"Attributes": 1}, "GetQueueAttributes on emails"),
        (lambda client: client.list_queue_urls(), {"QueueUrls": 1}, "ListQueues"),
    ],
)
def test_an_answer_that_is_not_sqss_is_an_outage(call, answer, action):
    with pytest.raises(BrokerUnavailable, match="the answer is not SQS's") as caught:
        call(client_of(answer))

    assert str(caught.value).startswith(action)
    assert caught.value.__cause__ is not None


def test_a_receiver_goes_on_after_an_answer_that_is_not_sqss():
    # given an endpoint that answers nonsense
    answers, polled = Answers({"Messages": [{}]}), []
    receiver = receiver_of(answers, lambda queue, deliveries, error: polled.append((deliveries, error)))
    receiver.poll(10)
    until(lambda: len(polled) == 1, "the first poll is told")

    # when it answers as SQS does
    answers.answer = {"Messages": [MESSAGE]}
    receiver.poll(10)
    until(lambda: len(polled) == 2, "the second poll is told")
    receiver.close()

    # then the first poll brought an error, and the second its message
    assert isinstance(polled[0][1], BrokerUnavailable)
    assert [delivery.message_id for delivery in polled[1][0]] == ["m"]


def test_a_deletion_is_tried_again_after_an_answer_that_is_not_sqss():
    # given a deletion that was answered with nonsense
    answers, settled, threads = Answers({"Successful": [{}]}), [], AtOnce()
    client = SqsClient(BrokerConfig(), boto_client=answers)
    [delivery] = receive(client_of({"Messages": [MESSAGE]}))
    now = 0.0
    acker = Acker(client, lambda _: QUEUE, threads, lambda results, _: settled.extend(results), lambda *_: None)
    acker.add(Ack(1, delivery), now)
    now += 10
    acker.flush(now)
    assert isinstance(threads.brought[0], BrokerUnavailable)
    assert not settled

    # when it is answered rightly
    answers.answer = {"Successful": [{"Id": "0"}]}
    now += 100
    acker.flush(now)
    acker.flush(now + 100)

    # then it is done
    assert [result.ok for result in settled] == [True]


def test_the_same_page_of_queues_is_not_asked_for_without_end():
    client = client_of({"QueueUrls": [URL], "NextToken": "again"})

    assert client.list_queue_urls() == [URL, URL]


def test_a_lease_of_which_an_answer_says_nothing_was_not_renewed():
    extended = []
    [delivery] = receive(client_of({"Messages": [MESSAGE]}))
    keeper = Keeper(client_of({}), lambda _: QUEUE, AtOnce(), lambda results, _: extended.extend(results))
    keeper.extend(Extend("emails", 30, (7,), (delivery,)))

    assert [(result.tag, result.ok) for result in extended] == [(7, False)]


def test_a_receive_that_brings_nothing_at_once_is_not_repeated_at_once():
    polled = []
    receiver = receiver_of(Answers({}), lambda queue, deliveries, error: polled.append(time.monotonic()))
    began = time.monotonic()
    receiver.poll(10)
    until(lambda: len(polled) == 1, "the poll is told")
    assert polled[0] - began >= EMPTY_APART_SECONDS

    # but a stop waits for nothing
    receiver.stop()
    began = time.monotonic()
    receiver.poll(10)
    until(lambda: len(polled) == 2, "the second poll is told")
    receiver.close()
    assert polled[1] - began < EMPTY_APART_SECONDS / 2
