"""How many messages are asked for: enough for the slots, little beyond, and never memory without bounds."""

from __future__ import annotations

import itertools
from collections import Counter
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
@pytest.mark.parametrize(("seconds", "each"), [(0.001, 10), (0.01, 4), (0.9, 1), (5.0, 1)])
def test_a_hundred_queues_that_are_all_full_bring_no_more_beyond_the_room_than_is_run_in_a_second_or_one_each(
    slots, seconds, each
):
    # given a hundred queues of which every poll brings what it asks for, and tasks of so many seconds
    world = World(*queues(100), slots=slots)

    # when they are worked off for a while
    most = 0
    for _ in range(30):
        fill(world)
        most = max(most, in_hand(world))
        world.later(seconds)
        for slot in list(world.running):
            world.report(slot=slot)
        world.settle()

    # then there never was more in hand than slots, buffer, and for each queue one, or its part of a second's work
    assert most <= credit.capacity(world.core.config, 0.0) + 100 * max(1, min(each, int(slots / seconds) // 100))
    assert sum(world.ran.values()) >= 30


def test_short_tasks_of_many_queues_are_received_and_run_in_tens():
    # given fifty queues that always have more, and tasks of a millisecond
    world = World(*queues(50), slots=4)
    for _ in range(400):
        fill(world)
        world.later(0.001)
        for slot in list(world.running):
            world.report(slot=slot)
        world.settle()
    polls, acks = [], []
    world.watch = lambda actions: (
        polls.extend(each for each in actions if isinstance(each, v.Poll)),
        acks.extend(each.delivery.queue for each in actions if isinstance(each, v.Ack)),
    )

    # when they are worked off for a while
    for _ in range(400):
        fill(world)
        world.later(0.001)
        for slot in list(world.running):
            world.report(slot=slot)
        world.settle()

    # then a poll asks for ten, and ten in a row are of one queue
    assert {each.count for each in polls} == {10}
    changes = sum(first != second for first, second in itertools.pairwise(acks))
    assert len(acks) == 1600
    assert changes <= len(acks) / 8

    # and no queue is left out
    assert min(Counter(acks).values()) >= max(Counter(acks).values()) - 20


def test_one_long_task_is_enough_to_ask_for_single_messages_again():
    world = World(*queues(50), slots=1)
    for _ in range(100):
        fill(world)
        world.later(0.001)
        world.report()
        world.settle()
    assert credit.at_once(world.core.config, 0.001, 1000.0, 50) == 10

    world.later(30.0)
    world.report()
    asked = []
    world.watch = lambda actions: asked.extend(each.count for each in actions if isinstance(each, v.Poll))
    while in_hand(world) > 1:
        world.later(0.0)
        world.report()
        world.settle()

    assert set(asked) <= {1}


@pytest.mark.parametrize(
    ("seconds", "slots", "expected"),
    [(None, 4, 1), (0.0, 4, 10), (0.01, 4, 10), (0.05, 4, 4), (0.5, 4, 1), (9.0, 4, 1)],
)
def test_how_many_of_one_queue_run_in_a_row_depends_on_how_long_they_take(seconds, slots, expected):
    assert credit.in_a_row(v.CoreConfig(concurrency=slots, shutdown_timeout=1), seconds) == expected


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
    assert credit.held_most(config, float(MEBIBYTE), 1) == 16 + 64


@pytest.mark.parametrize(
    ("number", "slots", "seconds", "size", "each", "in_all"),
    [
        (1, 4, 0.0002, 1_000.0, 10, 1_000),
        (200, 4, 0.0002, 1_000.0, 10, 2_000),
        (1_000, 4, 0.0002, 1_000.0, 10, 10_000),
        (1_000, 4, 0.001, 1_000.0, 4, 10_000),  # ten of each would be more than four slots run in a second
        (1_000, 4, 2.0, 1_000.0, 1, 10_000),
        (200, 4, 0.0002, float(MEBIBYTE), 1, 4 + 64),
    ],
)
def test_full_receives_of_many_queues_are_held_as_long_as_they_are_run_in_a_second(
    number, slots, seconds, size, each, in_all
):
    config = v.CoreConfig(concurrency=slots)

    assert credit.at_once(config, seconds, size, number) == each
    assert credit.held_most(config, size, number) == in_all


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
    parts = (table, table.ready, table.polls, table.rests, table.askable, table.precedence)
    kept = {name for part in parts for rows in vars(part).values() if isinstance(rows, (dict, set)) for name in rows}
    assert {name for name in kept if str(name).startswith("passing")} == set()


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


def deep(world, seconds=0.02, queue="q"):
    """The long poll takes so long, and brings a full batch."""
    world.polls[queue] = 10
    world.later(seconds)
    world.arrive(*(world.delivery(f"{world.now}-{number}", queue=queue) for number in range(10)), queue=queue)


def busy_world(*served, slots=10):
    """One that has learnt that tasks take no time, so that there is room for several batches."""
    world = World(*served, slots=slots)
    for queue in list(world.polls):
        world.arrive(world.delivery(f"first-{queue}", queue=queue), queue=queue)
    for slot in list(world.running):
        world.report(slot=slot)
    world.settle()
    return world


def test_a_deep_queue_far_away_is_received_from_several_times_at_once_and_a_shallow_one_is_not():
    world = busy_world()
    assert not world.extra

    # when a full batch has come after a while, then more are asked for beside the next long poll, as far as there is room
    deep(world)
    assert world.polls == {"q": 10}
    assert world.extra["q"] == 3

    # when one of these brings less, then the next do not follow
    world.arrive_beside(world.delivery("last"))
    assert world.extra["q"] == 2
    world.arrive_beside()
    world.arrive_beside()
    for slot in list(world.running):
        world.report(slot=slot)
    assert not world.extra["q"]
    assert world.polls == {"q": 10}


def test_a_limit_of_open_polls_keeps_no_deep_queue_from_being_received_from_several_times():
    # given one queue, and a limit that its own long poll reaches
    world = World(slots=10, open_polls=1)
    world.arrive(world.delivery("first"))
    for slot in list(world.running):
        world.report(slot=slot)
    world.settle()

    deep(world)

    assert world.polls == {"q": 10}
    assert world.extra["q"] == 3


def test_a_deep_queue_near_by_needs_no_more_than_its_long_poll():
    world = busy_world()

    deep(world, seconds=0.001)

    assert not world.extra["q"]


def test_large_messages_are_not_received_several_times_at_once():
    # given a busy worker
    world = busy_world()

    # when a full batch of messages of 120 KiB has come after a while
    world.polls["q"] = 10
    world.later(0.02)
    world.arrive(*(world.delivery(f"large-{number}", text=body(padding="x" * 120 * 1024)) for number in range(10)))

    # then the next long poll asks for more, but none beside it
    assert world.polls == {"q": 10}
    assert not world.extra["q"]


def test_a_fifo_queue_is_not_received_from_several_times_at_once():
    world = busy_world(v.QueuePolicy("q.fifo", "q.fifo", fifo=True))

    deep(world, queue="q.fifo")

    assert not any(world.extra.values())


def test_short_polls_bring_no_more_than_there_is_room_for():
    # given four slots, room for twenty more, and a queue that is deep
    world = busy_world(slots=4)

    deep(world)

    # then the long poll's ten and the ten in hand leave no room for another ten
    assert in_hand(world) == 10
    assert not world.extra["q"]


def test_a_stop_waits_for_short_polls_too():
    world = busy_world()
    deep(world)
    world.core.on_stop("warm", world.now)
    for slot in list(world.running):
        world.report(slot=slot)
    world.arrive()
    world.settle()
    assert not world.done

    # when they bring something after all, then that goes back
    world.arrive_beside(world.delivery("late"))
    world.arrive_beside()
    world.arrive_beside()
    assert [each.delivery.message_id for each in world.settling if isinstance(each, v.Release)][-1] == "late"
    world.settle()
    assert world.done
