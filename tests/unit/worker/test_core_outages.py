"""What the core decides while SQS refuses deletions, loses answers, or does not renew leases in time."""

from __future__ import annotations

import pytest

from pyqs_celery.worker.core import leases
from pyqs_celery.worker.core import values as v
from tests.unit.worker.core_harness import QUEUE, World


def test_while_a_deletion_is_denied_nothing_is_received_and_what_is_unstarted_goes_back():
    world = World(prefetch_multiplier=4)
    world.arrive(*(world.delivery(f"m{number}") for number in range(4)))
    world.report("succeeded")
    world.polls.clear()

    world.core.on_polled("q", [], world.now)
    world.core.on_refused("q", world.now)
    world.act()

    released = {action.delivery.message_id for action in world.settling if isinstance(action, v.Release)}
    assert released == {"m2", "m3"}
    assert world.core.view.queues.rests.forbidden == {"q"}
    for _ in range(10):
        world.later(10)
        world.core.on_refused("q", world.now)
        world.act()
        assert "q" not in world.polls


def test_what_a_poll_brings_that_was_open_when_a_deletion_was_denied_goes_back_unrun():
    world = World(slots=2)
    world.arrive(world.delivery("m1"))
    world.report("succeeded", slot=next(iter(world.running)))
    assert "q" in world.polls
    world.core.on_refused("q", world.now)

    world.arrive(world.delivery("m2"))

    assert world.ran == {"m1": 1}
    assert [type(action) for action in world.settling] == [v.Ack, v.Release]


def test_when_the_deletion_succeeds_after_all_the_queue_is_served_at_once():
    world = World()
    world.arrive(world.delivery("m1"))
    world.report("succeeded")
    world.polls.clear()
    world.core.on_polled("q", [], world.now)
    world.core.on_refused("q", world.now)
    world.act()
    assert not world.polls

    world.settle()

    assert "q" in world.polls
    assert not world.core.view.queues.rests.forbidden


def test_other_queues_are_served_while_one_may_not_be_deleted_from():
    other = v.QueuePolicy("other", "other")
    world = World(QUEUE, other, slots=2)
    world.arrive(queue="other")
    world.core.on_refused("q", world.now)
    world.act()
    assert "other" in world.polls


def test_a_message_that_is_gone_while_its_deletion_is_retried_is_no_lost_lease():
    world = World()
    world.arrive(world.delivery("m1"))
    world.report("succeeded")
    world.later(21)
    [extend] = world.extends

    world.core.on_extended([v.Extended(tag, ok=False, lost=True, gone=True) for tag in extend.tags], world.now)
    world.settle()

    assert "lease_lost" not in world.events()
    assert world.core.snapshot()["states"] == {}


@pytest.mark.parametrize("settling", [True, False])
def test_a_lease_that_somebody_else_may_have_is_told_of(settling):
    world = World()
    world.arrive(world.delivery("m1"))
    if settling:
        world.report("succeeded")
    world.later(21)
    world.extend(ok=False, lost=True)
    assert world.events().count("lease_lost") == 1


def test_a_message_received_again_while_its_deletion_is_retried_is_not_run_again():
    world = World()
    world.arrive(world.delivery("m1"))
    world.report("succeeded")

    world.arrive(world.delivery("m1", receive_count=2))
    [first] = world.settle()
    [second] = world.settle()

    assert (first.delivery.receipt_handle, second.delivery.receipt_handle) == ("r1", "r2")
    assert world.ran == {"m1": 1}
    assert world.core.snapshot()["states"] == {}


def test_renewals_are_tried_until_just_before_the_lease_ends():
    world = World()
    world.arrive(world.delivery("m1"))
    [held] = world.core.view.ledger
    start, times, now = world.now, [], world.now + 20
    while now < held.lease_until:
        times.append(round(now - start, 1))
        now = leases.retry_at(held, now)
    assert times[:4] == [20.0, 30.0, 40.0, 50.0]
    assert times[-1] >= 58
    assert len(times) < 12


EARLY = v.TaskPolicy(acks_late=False)


def test_the_lease_of_a_message_is_kept_until_its_early_deletion_has_succeeded():
    world = World(policy=EARLY)
    world.arrive(world.delivery("m1"))
    [ack] = world.settling
    world.later(21)
    assert [extend.tags for extend in world.extends] == [(ack.tag,)]
    world.extend()

    # its task ends first: the record stays until the deletion is confirmed
    world.report("succeeded")
    world.later(21)
    assert len(world.extends) == 1
    world.extend()
    world.settle()
    assert world.core.snapshot()["states"] == {}


def test_a_message_that_comes_again_while_its_early_deletion_is_retried_is_not_run_beside_itself_or_after():
    world = World(policy=EARLY, slots=2)
    world.arrive(world.delivery("m1"))
    world.arrive(world.delivery("m1", receive_count=2))
    world.report("succeeded", slot=next(iter(world.running)))
    [first] = world.settle()
    [second] = world.settle()

    assert (first.delivery.receipt_handle, second.delivery.receipt_handle) == ("r1", "r2")
    assert world.ran == {"m1": 1}
    assert world.core.snapshot()["states"] == {}


def test_a_second_copy_that_comes_after_the_early_deletion_is_deleted_too():
    world = World(policy=EARLY, slots=2)
    world.arrive(world.delivery("m1"))
    world.settle()
    world.arrive(world.delivery("m1", receive_count=2))
    [ack] = world.settle()
    assert ack.delivery.receipt_handle == "r2"
    world.report("succeeded", slot=next(iter(world.running)))
    assert world.ran == {"m1": 1}
    assert world.core.snapshot()["states"] == {}


def test_a_child_does_not_wait_for_ever_for_an_early_deletion():
    world = World(policy=EARLY, ack_before_run_waits=True)
    world.arrive(world.delivery("m1"))
    [ack] = world.settling
    assert ack.waited_for
    world.settle(ok=False, forbidden=True)
    assert [type(action) for action in world.settling] == [v.Release]
    assert not world.ran
