"""How many messages are asked for: enough for the slots, little beyond, and never memory without bounds."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from pyqs_celery.worker.core import credit
from pyqs_celery.worker.core import values as v
from tests.unit.worker.core_harness import World, body

MEBIBYTE = 1024 * 1024


def queues(number, **facts):
    return [v.QueuePolicy(f"q{index}", f"q{index}", dead_letter_queue="dlq", **facts) for index in range(number)]


def fill(world, most=10):
    """Every open poll brings what it asked for, at once."""
    for name, count in list(world.polls.items()):
        brought = [world.delivery(f"{name}-{world.now}-{number}", queue=name) for number in range(min(most, count))]
        world.arrive(*brought, queue=name)


def in_hand(world):
    return sum(row["in_hand"] for row in world.core.snapshot()["queues"].values())


@pytest.mark.parametrize("slots", [1, 4])
def test_a_hundred_queues_that_are_all_full_bring_no_more_than_one_each_beyond_the_room(slots):
    # given a hundred queues of which every poll brings what it asks for, and tasks that take no time
    world = World(*queues(100), slots=slots)

    # when they are worked off for a while
    most = 0
    for _ in range(30):
        fill(world)
        most = max(most, in_hand(world))
        for slot in list(world.running):
            world.report(slot=slot)
        world.settle()
        world.later(0.01)

    # then there never was more in hand than slots, buffer, and one for each queue
    assert most <= credit.capacity(world.core.config, 0.0) + 100
    assert sum(world.ran.values()) > 30


def test_of_two_full_queues_neither_waits_for_the_other():
    # given one slot, tasks of two seconds, and two queues that always have more
    world = World(*queues(2), slots=1)

    # when twenty tasks have run
    for _ in range(20):
        fill(world)
        world.later(2.0)
        world.report()
        world.settle()

    # then half of them came from each
    from_first = sum(number for message, number in world.ran.items() if message.startswith("q0"))
    assert 9 <= from_first <= 11


def test_a_quiet_queue_is_asked_for_one_message_and_a_busy_one_for_ten():
    world = World(*queues(2), slots=20)
    assert world.polls == {"q0": 1, "q1": 1}

    world.arrive(world.delivery("m1", queue="q0"), queue="q0")
    assert world.polls == {"q0": 10, "q1": 1}

    world.arrive(queue="q0")
    assert world.polls == {"q0": 1, "q1": 1}


def test_a_single_queue_is_asked_for_all_there_is_room_for():
    assert World(slots=8).polls == {"q": 8}


def test_large_messages_make_the_buffer_smaller_and_small_ones_do_not():
    config = v.CoreConfig(concurrency=16)

    assert credit.capacity(config, 0.001, 2_000.0) == 16 + 64
    assert credit.capacity(config, 0.001, float(MEBIBYTE)) == 16 + 32
    assert credit.capacity(v.CoreConfig(concurrency=16, prefetch_multiplier=0), None, float(MEBIBYTE)) == 16 + 32
    assert credit.held_most(config, float(MEBIBYTE)) == 16 + 64


def test_deletions_that_hang_stop_their_queue_and_no_other():
    # given two queues, and tasks that take no time
    world = World(*queues(2), slots=4)

    # when all deletions of the first hang
    for _ in range(100):
        fill(world)
        for slot in list(world.running):
            world.report(slot=slot)
        stuck = [each for each in world.settling if each.delivery.queue == "q0"]
        world.settling = [each for each in world.settling if each.delivery.queue == "q1"]
        world.settle()
        world.hung = getattr(world, "hung", []) + stuck
        world.later(0.01)

    # then about a hundred of it are in flight and it is polled no more, and the other goes on
    assert credit.UNSETTLED_MOST <= len(world.hung) < credit.UNSETTLED_MOST + credit.capacity(world.core.config, 0.0)
    assert "q0" not in world.polls
    assert sum(number for message, number in world.ran.items() if message.startswith("q1")) > 150

    # and when they are through at last, it is polled again
    world.settling = world.hung
    world.settle()
    assert "q0" in world.polls


def test_nothing_is_kept_of_a_queue_that_is_gone():
    world = World(*queues(1))
    for number in range(50):
        name = f"passing-{number}"
        world.core.set_queues([*queues(1), v.QueuePolicy(name, name)], world.now)
        world.act()
        world.arrive(world.delivery(f"m{number}", queue=name), queue=name)
        world.report()
        world.settle()
        world.arrive(queue=name)
        world.core.set_queues(queues(1), world.now)
        world.polls.pop(name, None)
        world.core.on_polled(name, [], world.now)
        world.act()
    world.core.set_queues(queues(1), world.now)

    table = world.core._queues
    kept = {name for rows in vars(table).values() if isinstance(rows, (dict, set)) for name in rows}
    assert {name for name in kept if name.startswith("passing")} == set()


FIFO = v.QueuePolicy("f.fifo", "f.fifo", fifo=True)


def bring_group(world, group, eta=None):
    """The FIFO queue's open poll brings as many messages as it asked for, all of one group."""
    ids = [f"{group}{number}" for number in range(world.polls["f.fifo"])]
    headers = {} if eta is None else {"eta": datetime.fromtimestamp(eta, timezone.utc).isoformat()}
    brought = [
        world.delivery(each, "f.fifo", body(task_id=each, **headers), group_id=group, receive_count=1) for each in ids
    ]
    world.arrive(*brought, queue="f.fifo")


@pytest.mark.parametrize("simple", [False, True])
@pytest.mark.parametrize("multiplier", [None, 1, 4])
def test_what_waits_for_its_group_leaves_the_slots_to_others(multiplier, simple):
    """A group runs one at a time, however much of it is in hand; its followers once took up all there was to take."""
    # given four slots, a FIFO queue with a long group, and another queue
    world = World(FIFO, *queues(1), slots=4, prefetch_multiplier=multiplier, simple=simple)
    bring_group(world, "a")
    bring_group(world, "a")

    # when the group's first task runs on and on, and the other queue has more
    for number in range(3):
        if "q0" in world.polls:
            brought = [world.delivery(f"q{number}{each}", queue="q0") for each in range(world.polls["q0"])]
            world.arrive(*brought, queue="q0")
        world.later(1.0)

    # then no slot is idle
    assert len(world.running) == 4
    assert sum(message.startswith("a") for message in world.ran) == 1


def test_followers_that_go_back_or_end_are_no_longer_counted_as_waiting():
    world = World(FIFO, slots=4)
    bring_group(world, "a")
    bring_group(world, "a")
    assert world.core.view.queues.total_stuck == 3

    world.report("failed")
    world.settle()

    assert world.core.view.queues.total_stuck == world.core.view.queues.total_in_hand == 0


def test_a_queue_with_a_limit_of_its_own_leaves_the_slots_to_others():
    # given four slots and a queue of which one task may run at a time
    limited = v.QueuePolicy("narrow", "narrow", concurrency=1)
    world = World(limited, *queues(1), slots=4)

    # when both have as much as is asked for, and tasks run on and on
    for _ in range(4):
        fill(world)
        world.later(1.0)

    # then nothing waits behind that task, and no slot is idle
    assert sorted(dispatch.delivery.queue for dispatch in world.running.values()) == ["narrow", "q0", "q0", "q0"]
    assert world.core.snapshot()["queues"]["narrow"]["in_hand"] == 1


def test_an_eta_that_is_held_in_its_group_leaves_the_slots_to_others():
    """On a FIFO queue whose redrive limit leaves no room for another receipt, an ETA is waited for in hand."""
    strict = v.QueuePolicy("f.fifo", "f.fifo", fifo=True, max_receive_count=1, dead_letter_queue="dlq")
    world = World(strict, *queues(1), slots=2)
    for group in ("a", "b", "c"):
        bring_group(world, group, eta=world.now + 25)
    assert world.core.snapshot()["states"] == {"deferred": 3}

    for number in range(2):
        world.arrive(world.delivery(f"m{number}", queue="q0"), queue="q0")
    assert [dispatch.delivery.queue for dispatch in world.running.values()] == ["q0", "q0"]

    # and when they are due, they run in their turn
    world.later(25)
    assert world.core.view.queues.total_stuck == 0
