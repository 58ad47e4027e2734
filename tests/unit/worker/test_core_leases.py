"""A worker that was stopped for a while, or whose answers were late, does not trust leases that may have ended."""

from __future__ import annotations

from dataclasses import replace

from pyqs_celery.worker.core import values as v
from tests.unit.worker.core_harness import QUEUE, World, body

FIFO = replace(QUEUE, name="o.fifo", logical="o.fifo", fifo=True, dead_letter_queue="o-dlq.fifo")


def test_an_outcome_that_comes_after_the_lease_is_told_of_before_its_message_is_deleted():
    # given a running task and a worker that sleeps beyond the lease
    world = World()
    world.arrive(world.delivery("m1"))

    # when the first thing it hears is that the task has succeeded
    world.now += 61
    world.report("succeeded")

    # then it says so, and deletes what was done
    assert world.events() == ["received", "lease_lost", "repeated"]
    assert [type(action) for action in world.settling] == [v.Ack]


def test_a_failure_after_the_lease_leaves_the_message_to_whoever_has_it():
    world = World()
    world.arrive(world.delivery("m1"))

    world.now += 61
    world.report("failed")

    assert world.settling == []
    assert "lease_lost" in world.events()
    assert world.core.snapshot()["states"] == {}


def test_a_child_that_died_after_the_lease_releases_nothing():
    """A release by an old receipt could show the message to a third worker while a second one runs it."""
    world = World()
    world.arrive(world.delivery("m1"))

    world.now += 61
    world.lose()

    assert world.settling == []
    assert "lease_lost" in world.events()


def test_what_is_ready_is_dropped_after_a_freeze_and_never_started():
    world = World(prefetch_multiplier=4)
    world.arrive(world.delivery("m1"), world.delivery("m2"), world.delivery("m3"))

    world.now += 61
    world.report("succeeded")

    assert world.ran == {"m1": 1}
    assert world.events().count("lease_lost") == 3
    assert [action.delivery.message_id for action in world.settling] == ["m1"]


def test_a_renewal_holds_from_when_it_was_asked_for_not_from_when_its_answer_was_read():
    # given a renewal asked for after 20 of 60 seconds
    world = World()
    world.arrive(world.delivery("m1"))
    world.later(20)
    assert len(world.extends) == 1

    # when its answer is read 55 seconds later, by a worker that was stopped meanwhile
    world.now += 55
    world.extend()
    assert "lease_lost" not in world.events()

    # then five seconds are left, and a task whose end comes after those is told of
    world.now += 6
    world.report("succeeded")
    assert "lease_lost" in world.events()


def test_receipts_that_led_to_no_run_are_no_tries():
    """SQS gives the group again with each of its messages, and counts; our own limit does not."""
    # given a group whose first message fails each time, and a follower that is received and given back each time
    world = World(FIFO, slots=1, prefetch_multiplier=4)
    for count in (1, 2, 3, 4):
        first, second = (
            world.delivery(name, "o.fifo", group_id="g", receive_count=count, text=body(task_id=name))
            for name in ("first", "second")
        )
        world.arrive(first, second, queue="o.fifo")
        world.report("failed" if count < 4 else "succeeded")
        world.settle()

    # when it fails itself the first time it runs, at its fifth receipt
    assert "second" in {each.delivery.message_id for each in world.running.values()}
    [dispatch] = world.running.values()
    assert (dispatch.delivery.unrun_count, dispatch.delivery.tries, dispatch.last) == (3, 1, False)
    world.report("failed")

    # then it comes back, and is not moved as one that has failed five times
    assert [type(action) for action in world.settling] == [v.Release]


def test_sqs_counts_every_receipt_and_its_limit_holds():
    world = World(replace(FIFO, max_receive_count=2), slots=1, prefetch_multiplier=4)
    for count in (1, 2):
        world.arrive(
            *(world.delivery(name, "o.fifo", group_id="g", receive_count=count) for name in ("first", "second")),
            queue="o.fifo",
        )
        world.report("failed" if count == 1 else "succeeded")
        world.settle()

    [dispatch] = world.running.values()
    assert (dispatch.delivery.message_id, dispatch.last) == ("second", True)
