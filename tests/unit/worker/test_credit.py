"""How many messages are asked for: enough for the slots, little beyond, and never memory without bounds."""

from __future__ import annotations

import pytest

from pyqs_celery.worker.core import credit
from pyqs_celery.worker.core import values as v
from tests.unit.worker.core_harness import World

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
