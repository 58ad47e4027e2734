"""Long polls: one at a time, told of once each, whatever SQS does with them."""

from __future__ import annotations

import logging
import threading
import time
from queue import SimpleQueue

import pytest

from pyqs_celery.broker.client import SqsClient
from pyqs_celery.broker.config import BrokerConfig
from pyqs_celery.broker.delivery import Delivery, QueueInfo
from pyqs_celery.exceptions import AccessDenied, BrokerUnavailable, InvalidRequest, Throttled
from pyqs_celery.utils.log import Troubles
from pyqs_celery.worker.receiver import HANGING_MOST, Attempt, Receiver
from tests.support.waiting import until

QUEUE = QueueInfo("q", "http://sqs/q", "q")
FIFO = QueueInfo("q.fifo", "http://sqs/q.fifo", "q.fifo", fifo=True)


def delivery(number=1):
    return Delivery("q", f"m{number}", f"r{number}", "body", 1000.0)


class FakeClient:
    """Answers as told: lists of deliveries, errors, or events that are waited for."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []
        self.resets = 0

    def receive(self, queue, **how):
        self.asked.append(how)
        answer = self.answers.pop(0) if self.answers else []
        if isinstance(answer, threading.Event):
            answer.wait(30)
            return [delivery(99)]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def reset(self, *, after_trouble):
        self.resets += 1


class World:
    def __init__(self, client, queue=QUEUE):
        self.client = client
        self.news = SimpleQueue()
        self.receiver = Receiver(
            client,
            queue,
            lease_seconds=60,
            wait_seconds=10,
            on_polled=lambda *told: self.news.put(told),
            troubles=Troubles(),
        )

    def poll(self, count=10):
        self.receiver.poll(count)
        return self.news.get(timeout=20)


@pytest.fixture
def worlds():
    made = []

    def make(*answers, queue=QUEUE):
        made.append(World(FakeClient(*answers), queue))
        return made[-1]

    yield make
    for world in made:
        world.receiver.close()


def test_each_ask_is_answered_once(worlds):
    world = worlds([delivery(1)], [])
    assert world.poll() == ("q", [delivery(1)], None)
    assert world.poll() == ("q", [], None)
    assert [how["wait_seconds"] for how in world.client.asked] == [10, 10]


def test_the_first_wait_after_a_failure_is_short_and_said_once(worlds, caplog):
    world = worlds(*[BrokerUnavailable("no route")] * 3, [])
    began = time.monotonic()
    with caplog.at_level(logging.INFO):
        errors = [world.poll()[2] for _ in range(3)]
        world.poll()
    assert all(isinstance(error, BrokerUnavailable) for error in errors)
    assert time.monotonic() - began < 5
    assert [record.getMessage() for record in caplog.records] == [
        "Queue q: no route; trying again",
        "Queue q: receiving again",
    ]
    assert world.client.resets == 1


def test_a_stop_ends_the_wait_after_a_failure_and_the_last_poll_is_short(worlds):
    world = worlds(*[Throttled("slow down")] * 10)
    for _ in range(4):
        world.poll()
    world.receiver.poll(10)
    world.receiver.stop()
    began = time.monotonic()
    assert isinstance(world.news.get(timeout=20)[2], Throttled)
    assert time.monotonic() - began < 1.5, "the fifth failure in a row waits for 1.6 s at least"
    world.poll()
    assert world.client.asked[-1]["wait_seconds"] == 0


def test_a_poll_that_hangs_is_given_up_after_a_minute_and_another_is_made(worlds, caplog):
    hangs = threading.Event()
    world = worlds(hangs, [delivery(2)])
    world.receiver.poll(10)
    until(lambda: world.client.asked, "the poll is open")
    now = time.monotonic()
    world.receiver.look(now + 55)
    assert world.news.empty()

    world.receiver.look(now + 65)

    queue, deliveries, error = world.news.get(timeout=5)
    assert (queue, deliveries, type(error)) == ("q", [], BrokerUnavailable)
    assert world.client.resets == 1
    assert "a poll has not ended within 60 s" in caplog.text
    assert world.poll() == ("q", [delivery(2)], None)
    # what it brings in the end is not told: its lease began long ago
    hangs.set()
    until(lambda: world.receiver._hanging == 0, "the old thread has ended")
    assert world.news.empty()


def test_no_more_than_a_few_threads_are_lost_to_polls_that_hang(worlds):
    hang = [threading.Event() for _ in range(HANGING_MOST + 1)]
    world = worlds(*hang)
    for number in range(HANGING_MOST):
        world.receiver.poll(10)
        until(lambda number=number: len(world.client.asked) == number + 1, "the poll is open")
        world.receiver.look(time.monotonic() + 65)
        world.news.get(timeout=5)
    world.receiver.poll(10)
    until(lambda: len(world.client.asked) == HANGING_MOST + 1, "the poll is open")
    world.receiver.look(time.monotonic() + 65)
    assert world.news.empty()
    for event in hang:
        event.set()


def test_at_a_stop_a_poll_that_hangs_is_waited_for_no_longer_than_polls_take(worlds):
    hangs = threading.Event()
    world = worlds(hangs)
    world.receiver.poll(10)
    until(lambda: world.client.asked, "the poll is open")
    world.receiver.close()
    world.receiver.look(time.monotonic() + 14)
    assert world.news.empty()
    assert not world.receiver.is_over
    world.receiver.look(time.monotonic() + 16)
    assert world.news.get(timeout=5)[1] == []
    assert world.receiver.is_over
    hangs.set()


def test_a_fifo_receive_whose_answer_was_lost_is_made_again_by_the_same_id(worlds):
    world = worlds([], BrokerUnavailable("reset"), BrokerUnavailable("reset"), [delivery(1)], [], queue=FIFO)
    for count in (10, 7, 3, 2, 1):
        world.poll(count)
    ids = [how["attempt"] for how in world.client.asked]
    assert ids[1] == ids[2] == ids[3]
    assert len(set(ids)) == 3
    assert [how["count"] for how in world.client.asked] == [10, 7, 7, 7, 1]


@pytest.mark.parametrize("answer", [Throttled("slow down"), AccessDenied("no"), InvalidRequest("not retryable")])
def test_what_sqs_has_answered_is_asked_by_a_new_id(worlds, answer):
    world = worlds(BrokerUnavailable("reset"), answer, [], queue=FIFO)
    for _ in range(3):
        world.poll()
    ids = [how["attempt"] for how in world.client.asked]
    assert ids[0] == ids[1] != ids[2]


def test_an_attempt_that_cannot_be_made_again_is_no_trouble(worlds, caplog):
    world = worlds(BrokerUnavailable("reset"), InvalidRequest("not retryable"), [delivery(1)], queue=FIFO)
    world.poll()
    caplog.clear()
    world.poll()
    assert not caplog.records
    assert world.poll()[1] == [delivery(1)]


def test_standard_queues_have_no_attempts(worlds):
    world = worlds(BrokerUnavailable("reset"), [])
    world.poll()
    world.poll()
    assert [how["attempt"] for how in world.client.asked] == [None, None]


def test_an_attempt_is_not_made_again_after_sqs_has_forgotten_it():
    attempt = Attempt()
    assert attempt.begin(10, 0.0) == 10
    first = attempt.id
    assert attempt.begin(3, 200.0) == 10
    assert attempt.id == first
    assert attempt.begin(3, 250.0) == 3
    assert attempt.id != first


@pytest.mark.parametrize(("took", "lease_from"), [(0.1, 1000.1), (9.0, 1009.0), (30.0, 1000.0)])
def test_a_lease_counts_from_the_question_if_the_answer_was_longer_on_its_way_than_polls_take(took, lease_from):
    """An answer of which the body came slowly is older than it looks."""

    class Boto:
        def receive_message(self, **request):
            clock[0] += took
            return {"Messages": [{"MessageId": "m", "ReceiptHandle": "r", "Body": "x"}]}

    clock = [1000.0]
    client = SqsClient(BrokerConfig(), boto_client=Boto())
    [received] = client.receive(QUEUE, count=1, wait_seconds=10, visibility_seconds=60, clock=lambda: clock[0])
    assert received.received_at == pytest.approx(lease_from)
