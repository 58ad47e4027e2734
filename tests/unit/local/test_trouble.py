"""What standard queues may do to their clients, FIFO's second answer, quotas and retention."""

from __future__ import annotations

import random

import pytest

from pyqs_celery.local.errors import ApiError
from pyqs_celery.local.trouble import Trouble

MANY = [str(number) for number in range(200)]


def handle(message):
    return message["ReceiptHandle"]


def trouble(local, duplicates=0.0, shuffle=False):
    local.store.trouble = Trouble(local.store, duplicates, shuffle, random.Random(5))


def test_duplicates_come_while_in_flight_or_after_deletion_with_the_same_id(local):
    queue = local.create("a")
    local.send(queue, *MANY)
    trouble(local, duplicates=1.0)
    first = [message for _ in range(20) for message in local.receive(queue)]
    in_flight = [message for _ in range(20) for message in local.receive(queue)]
    assert in_flight
    again = {message["MessageId"] for message in in_flight}
    assert {message["MessageId"] for message in first} >= again
    for message in first:
        local.store.delete(queue, handle(message))
    undead = [message for _ in range(20) for message in local.receive(queue) if message["MessageId"] not in again]
    assert undead
    assert {event[4] for event in local.store.log if event[1] == "duplicate"} == {"in flight", "after its deletion"}
    assert local.store.stats["duplicates"] >= len(in_flight) + len(undead)


def test_a_message_that_came_twice_is_deleted_by_its_newest_receipt_only(local):
    queue = local.create("a")
    trouble(local, duplicates=1.0)
    pair = None
    while pair is None:
        local.send(queue, "x")
        [first] = local.receive(queue, 1)
        second = local.receive(queue, 1)
        pair = (first, second[0]) if second and second[0]["MessageId"] == first["MessageId"] else None
    local.store.trouble = None
    before = queue.inflight
    local.store.delete(queue, handle(pair[0]))
    assert queue.inflight == before
    local.store.delete(queue, handle(pair[1]))
    assert queue.inflight == before - 1


def test_fifo_queues_deliver_once_and_in_order_whatever_is_switched_on(local):
    queue = local.create("a.fifo")
    local.send(queue, *MANY[:30])
    trouble(local, duplicates=1.0, shuffle=True)
    seen = []
    while received := local.receive(queue):
        seen += [message["Body"] for message in received]
        for message in received:
            local.store.delete(queue, handle(message))
    assert seen == MANY[:30]


def test_shuffled_queues_deliver_everything_in_another_order(local):
    queue = local.create("a")
    local.send(queue, *MANY)
    trouble(local, shuffle=True)
    seen = [body for _ in range(20) for body in local.bodies(queue)]
    assert seen != MANY
    assert sorted(seen) == sorted(MANY)


def test_a_standard_queue_over_its_quota_refuses_short_polls_and_leaves_long_ones_waiting(local):
    queue = local.create("a")
    local.store.in_flight_most = 3
    local.send(queue, *MANY[:5])
    assert local.bodies(queue) == ["0", "1", "2"]
    with pytest.raises(ApiError) as caught:
        local.receive(queue)
    assert caught.value.code == "OverLimit"
    assert local.receive(queue, WaitTimeSeconds=5) == []


def test_a_fifo_queue_over_its_quota_is_silent(local):
    queue = local.create("a.fifo")
    local.store.in_flight_most = 1
    local.send(queue, "x")
    local.send(queue, "y", MessageGroupId="other")
    assert local.bodies(queue) == ["x"]
    assert local.receive(queue) == []


def test_messages_past_retention_are_gone_whatever_their_state(local):
    queue = local.create("a", MessageRetentionPeriod=60, VisibilityTimeout=3600)
    local.send(queue, "taken", "waiting")
    local.send(queue, "delayed", DelaySeconds=900)
    local.receive(queue, 1)
    local.clock.now += 59
    local.send(queue, "young")
    assert len(queue.ready) == 2
    local.clock.now += 3
    local.store.refresh(queue)
    assert [message.body for message in queue.ready] == ["young"]
    assert (queue.inflight, queue.delayed) == (0, 0)
    assert [event[1] for event in local.store.log].count("retention") == 3
    local.clock.now += 60
    assert local.bodies(queue) == []


def test_a_receive_may_be_made_again_by_its_attempt_id(local):
    queue = local.create("a.fifo", VisibilityTimeout=30)
    local.send(queue, *MANY[:3])
    first = local.receive(queue, 2, ReceiveRequestAttemptId="one")
    local.clock.now += 20
    again = local.receive(queue, 2, ReceiveRequestAttemptId="one")
    assert [handle(message) for message in again] == [handle(message) for message in first]
    local.clock.now += 20
    assert local.receive(queue, 2, ReceiveRequestAttemptId="two") == []


@pytest.mark.parametrize("change", ["deleted", "hidden", "run out"])
def test_an_attempt_whose_messages_have_changed_cannot_be_made_again(local, change):
    queue = local.create("a.fifo", VisibilityTimeout=30)
    local.send(queue, *MANY[:3])
    first = local.receive(queue, 2, ReceiveRequestAttemptId="one")
    if change == "deleted":
        local.store.delete(queue, handle(first[0]))
    elif change == "hidden":
        local.store.change_visibility(queue, handle(first[0]), 30)
    else:
        local.clock.now += 31
    with pytest.raises(ApiError, match="not retryable"):
        local.receive(queue, 2, ReceiveRequestAttemptId="one")


def test_an_attempt_id_is_forgotten_after_five_minutes(local):
    queue = local.create("a.fifo", VisibilityTimeout=900)
    local.send(queue, *MANY[:3])
    local.receive(queue, 2, ReceiveRequestAttemptId="one")
    local.clock.now += 301
    assert local.receive(queue, 2, ReceiveRequestAttemptId="one") == []
