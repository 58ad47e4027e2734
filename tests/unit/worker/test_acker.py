"""Deletions, releases and moves: in tens, each entry to its end, whatever SQS answers."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest

from pyqs_celery.broker.client import BatchResult, EntryError
from pyqs_celery.broker.config import BrokerConfig
from pyqs_celery.broker.delivery import Delivery, QueueInfo
from pyqs_celery.exceptions import AccessDenied, BrokerUnavailable, QueueDoesNotExist, Throttled
from pyqs_celery.worker.acker import Acker
from pyqs_celery.worker.core.values import Ack, DeadLetter, Hop, Release

QUEUE = QueueInfo("q", "http://sqs/q", "q")


class FakeSqs:
    """Answers as told: ``answers[method]`` is a list of errors, or functions from entry ids to a BatchResult."""

    config = BrokerConfig()

    def __init__(self):
        self.calls = []
        self.answers = {}

    def _answer(self, method, ids):
        planned = self.answers.get(method)
        answer = planned.pop(0) if planned else None
        if isinstance(answer, Exception):
            raise answer
        return answer(ids) if answer else BatchResult(frozenset(ids))

    def delete_batch(self, queue, entries):
        self.calls.append(("delete", [handle for _, handle in entries]))
        return self._answer("delete", [each for each, _ in entries])

    def change_visibility_batch(self, queue, entries):
        self.calls.append(("release", [(handle, seconds) for _, handle, seconds in entries]))
        return self._answer("release", [each for each, _, _ in entries])

    def send_batch(self, url, messages):
        self.calls.append(("send", url, [message for _, message in messages]))
        return self._answer("send", [each for each, _ in messages])

    def queue_url(self, name):
        self.calls.append(("url", name))
        self._answer("url", [])
        return f"http://sqs/{name}"

    def create_queue(self, name, attributes):
        self.calls.append(("create", name, attributes))
        self._answer("create", [])
        return f"http://sqs/{name}"


class AtOnce:
    """Makes calls where they are asked for, and leaves their answers as news."""

    def __init__(self, news):
        self.news = news

    def ask(self, call, then, **watched):
        answer = call()
        self.news.append(lambda now: then(answer, now))


@pytest.fixture
def sqs():
    return FakeSqs()


@pytest.fixture
def world(sqs):
    world = SimpleNamespace(now=1000.0, ends=[], refused=[], queue=QUEUE)
    news = []
    world.acker = Acker(
        sqs,
        lambda name: world.queue,
        AtOnce(news),
        lambda settled, now: world.ends.extend(settled),
        lambda queue, now: world.refused.append(queue),
    )

    def run(seconds=0.0):
        world.now += seconds
        world.acker.flush(world.now)
        while news:
            news.pop(0)(world.now)

    world.run = run
    return world


def delivery(number=1, **facts):
    return Delivery("q", f"m{number}", f"r{number}", "body", 1000.0, **facts)


def ack(number=1):
    return Ack(number, delivery(number))


def kinds(sqs):
    return [call[0] for call in sqs.calls]


def test_ten_deletions_are_one_request_and_fewer_wait_a_moment(world, sqs):
    for number in range(12):
        world.acker.add(ack(number), world.now)
    world.run()
    assert [len(call[1]) for call in sqs.calls] == [10]
    assert world.acker.next_due() == pytest.approx(world.now + 0.5)

    world.run(0.5)

    assert [len(call[1]) for call in sqs.calls] == [10, 2]
    assert [(end.tag, end.ok) for end in world.ends] == [(number, True) for number in range(12)]


@pytest.mark.parametrize(
    ("action", "seconds"),
    [
        (ack(), 0.5),
        (Ack(1, delivery(), waited_for=True), 0.005),
        (Ack(1, delivery(group_id="g")), 0.005),
        (Release(1, delivery(), 0), 0.005),
    ],
    ids=["a deletion", "one that a child waits for", "one that a FIFO group waits for", "a release"],
)
def test_nothing_that_somebody_waits_for_waits_for_company(world, action, seconds):
    world.acker.add(action, world.now)

    assert world.acker.next_due() == pytest.approx(world.now + seconds)


def test_a_deletion_waits_no_longer_than_a_small_part_of_its_queues_timeout(world):
    world.queue = QueueInfo("q", "http://sqs/q", "q", visibility_timeout_seconds=2)

    world.acker.add(ack(), world.now)

    assert world.acker.next_due() == pytest.approx(world.now + 0.1)


def test_an_entry_that_failed_is_tried_again_alone(world, sqs):
    sqs.answers["delete"] = [lambda ids: BatchResult(frozenset(ids[:1]), {ids[1]: EntryError("InternalError", "oops")})]
    world.acker.add(ack(1), world.now)
    world.acker.add(ack(2), world.now)
    world.run(0.5)
    assert [end.tag for end in world.ends] == [1]

    for _ in range(5):
        world.run(0.1)

    assert sqs.calls[-1] == ("delete", ["r2"])
    assert [(end.tag, end.ok) for end in world.ends] == [(1, True), (2, True)]


def test_a_deletion_without_an_answer_is_tried_for_as_long_as_a_lease_can_be_kept(world, sqs):
    sqs.answers["delete"] = [BrokerUnavailable("no route")] * 20_000
    world.acker.add(ack(), world.now)
    for _ in range(700):
        world.run(60)
    assert not world.ends
    for _ in range(40):
        world.run(60)

    assert [(end.ok, end.forbidden) for end in world.ends] == [(False, False)]


def test_a_release_without_an_answer_is_given_up_after_ten_minutes(world, sqs):
    sqs.answers["release"] = [BrokerUnavailable("no route")] * 1000
    world.acker.add(Release(1, delivery(), 0), world.now)
    for _ in range(700):
        world.run(1)

    assert [end.ok for end in world.ends] == [False]
    assert 60 < len(sqs.calls) < 280


def test_retries_are_never_further_apart_than_five_seconds_but_when_throttled(world, sqs):
    sqs.answers["delete"] = [BrokerUnavailable("no route")] * 50 + [Throttled("slow down")] * 50
    world.acker.add(ack(), world.now)
    times = []
    for _ in range(20_000):
        before = len(sqs.calls)
        world.run(0.1)
        times += [world.now] * (len(sqs.calls) - before)
    gaps = [later - sooner for sooner, later in itertools.pairwise(times)]

    assert len(gaps) == 100
    assert max(gaps[:50]) < 5.5
    assert max(gaps[51:]) > 10


def test_entries_that_failed_together_are_tried_again_together(world, sqs):
    sqs.answers["delete"] = [BrokerUnavailable("no route")] * 6
    for number in range(10):
        world.acker.add(ack(number), world.now)
    for _ in range(300):
        world.run(0.1)

    assert [len(call[1]) for call in sqs.calls] == [10] * 7
    assert len(world.ends) == 10


def test_a_stop_gives_up_sooner(world, sqs):
    sqs.answers["delete"] = [BrokerUnavailable("no route")] * 1000
    world.acker.stop_at(world.now + 5)
    world.acker.add(ack(), world.now)
    for _ in range(60):
        world.run(0.1)

    assert [end.ok for end in world.ends] == [False]


def test_a_denied_deletion_is_told_and_tried_again_until_it_is_allowed(world, sqs):
    sqs.answers["delete"] = [AccessDenied("no")] * 300
    world.acker.add(ack(), world.now)
    for _ in range(1000):
        world.run(1)
    assert not world.ends
    # each wait is 2.5 to 5 seconds, of which this loop sees the end up to a second later
    assert 1000 / 6 <= len(world.refused) < 300
    assert set(world.refused) == {"q"}

    sqs.answers.clear()
    for _ in range(6):
        world.run(1)

    assert [end.ok for end in world.ends] == [True]


def test_a_denied_deletion_is_given_up_when_the_worker_stops(world, sqs):
    sqs.answers["delete"] = [AccessDenied("no")] * 300
    world.acker.add(ack(), world.now)
    world.run(0.06)
    world.acker.stop_at(world.now + 25)
    for _ in range(5):
        world.run(0.1)

    assert [(end.ok, end.forbidden) for end in world.ends] == [(False, True)]


def test_a_deletion_from_a_queue_that_is_missing_is_tried_for_ten_minutes(world, sqs):
    sqs.answers["delete"] = [QueueDoesNotExist("gone")] * 1000
    world.acker.add(ack(), world.now)
    for _ in range(590):
        world.run(1)
    assert not world.ends
    for _ in range(20):
        world.run(1)

    assert [end.ok for end in world.ends] == [False]


def test_a_hop_that_may_not_be_sent_is_tried_again(world, sqs):
    sqs.answers["send"] = [AccessDenied("no"), AccessDenied("no")]
    world.acker.add(Hop(1, delivery(), 900), world.now)
    for _ in range(30):
        world.run(0.1)

    assert kinds(sqs) == ["send", "send", "send", "delete"]
    assert [end.ok for end in world.ends] == [True]
    assert not world.refused


def test_a_denied_deletion_that_a_child_waits_for_ends_at_once(world, sqs):
    sqs.answers["delete"] = [AccessDenied("no")]
    world.acker.add(Ack(1, delivery(), waited_for=True), world.now)
    world.run(0.06)

    assert [(end.ok, end.forbidden) for end in world.ends] == [(False, True)]
    assert world.refused == ["q"]


def test_a_lost_receipt_ends_at_once(world, sqs):
    sqs.answers["delete"] = [
        lambda ids: BatchResult(failed={ids[0]: EntryError("ReceiptHandleIsInvalid", "", retryable=False, lost=True)})
    ]
    world.acker.add(ack(), world.now)
    world.run(0.5)

    assert [(end.ok, end.detail) for end in world.ends] == [(False, "its lease was lost")]


def test_releases_carry_their_own_delays(world, sqs):
    world.acker.add(Release(1, delivery(1), 0), world.now)
    world.acker.add(Release(2, delivery(2), 300), world.now)
    world.run(0.01)

    assert sqs.calls == [("release", [("r1", 0), ("r2", 300)])]


def test_a_hop_sends_first_and_deletes_then(world, sqs):
    world.acker.add(Hop(1, delivery(), 900), world.now)
    world.run(0.01)
    assert kinds(sqs) == ["send"]
    assert not world.ends

    world.run(0.06)

    assert kinds(sqs) == ["send", "delete"]
    assert sqs.calls[0][2][0].delay_seconds == 900
    assert [end.ok for end in world.ends] == [True]


def test_a_copy_that_was_made_is_not_made_again_when_only_the_deletion_failed(world, sqs):
    sqs.answers["delete"] = [BrokerUnavailable("no route")] * 3
    world.acker.add(Hop(1, delivery(), 900), world.now)
    for _ in range(40):
        world.run(0.2)

    assert kinds(sqs) == ["send", "delete", "delete", "delete", "delete"]
    assert [end.ok for end in world.ends] == [True]


def dead_letter():
    return DeadLetter(1, delivery(receive_count=5), "q-dlq", "ValueError()", "ValueError", 30)


def test_a_dead_letter_queue_is_made_when_it_is_first_needed(world, sqs):
    sqs.answers["url"] = [QueueDoesNotExist("none")]
    world.acker.add(dead_letter(), world.now)
    world.run(0.01)
    world.run(0.06)

    assert kinds(sqs) == ["url", "create", "send", "delete"]
    assert sqs.calls[1] == ("create", "q-dlq", {"MessageRetentionPeriod": "1209600"})
    [moved] = sqs.calls[2][2]
    assert moved.body == "body"
    assert moved.attributes["pyqs.reason"]["StringValue"] == "ValueError()"
    assert [end.ok for end in world.ends] == [True]


def test_a_refused_move_hides_the_message_instead(world, sqs):
    sqs.answers["send"] = [AccessDenied("no", code="AccessDenied")]
    world.acker.add(dead_letter(), world.now)
    for _ in range(5):
        world.run(0.02)

    assert kinds(sqs) == ["url", "send", "release"]
    assert sqs.calls[-1] == ("release", [("r1", 960)])
    assert [end.ok for end in world.ends] == [False]
    assert "q-dlq" in world.ends[0].detail
