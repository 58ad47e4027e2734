"""Some queues go before others: strictly by rank, by turns within one, and never beyond a queue's own limit."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import count

import pytest

from pyqs_celery.worker.core import values as v
from pyqs_celery.worker.core.fairness import ReadyQueues, Share
from pyqs_celery.worker.core.precedence import LISTEN_SECONDS
from tests.unit.worker.core_harness import QUEUE, World

HIGH = replace(QUEUE, name="high", logical="high", rank=10)
LOW = replace(QUEUE, name="low", logical="low", rank=1)


NUMBERS = count(1)


def bring(world, queue, number):
    """Answer the open polls of a queue until it has brought so many messages, or asks no more; how many it brought."""
    brought = 0
    while brought < number and queue in world.polls:
        part = min(number - brought, world.polls[queue])
        made = [world.delivery(f"m{next(NUMBERS)}", queue=queue) for _ in range(part)]
        world.arrive(*made, queue=queue)
        brought += part
    return brought


def runs(world):
    return Counter(dispatch.delivery.queue for dispatch in world.running.values())


def finish(world, seconds=0.0, slot=0):
    world.now += seconds
    world.report(slot=slot)
    world.settle()


def in_hand(world, queue):
    return world.core.snapshot()["queues"][queue]["in_hand"]


def learnt_to_be_short(*queues, slots=1):
    """A world that has run a few tasks of no time of the lowest queue, and so holds some beyond its slots."""
    world = World(*queues, slots=slots)
    world.later(LISTEN_SECONDS)
    for _ in range(3):
        world.arrive(world.delivery(f"first-{world.now}", queue=queues[-1].name), queue=queues[-1].name)
        finish(world, 0.001)
        world.later(LISTEN_SECONDS)
    return world


# -- strict order ----------------------------------------------------------------------------------


def test_a_lower_queue_is_asked_once_the_higher_has_been_listened_to():
    world = World(LOW, HIGH)
    assert set(world.polls) == {"high"}

    assert world.core.next_wakeup(world.now) == pytest.approx(world.now + LISTEN_SECONDS)
    world.later(LISTEN_SECONDS)

    assert set(world.polls) == {"high", "low"}


def test_a_free_slot_goes_to_the_higher_queue_though_the_lower_has_a_message_in_hand():
    # given one slot that has run a task for a while, while each queue's poll brought one more
    world = World(HIGH, LOW)
    world.later(LISTEN_SECONDS)
    bring(world, "low", 1)
    bring(world, "high", 1)
    assert runs(world) == {"low": 1}

    # when the slot is free
    finish(world, 3)

    # then the higher goes first
    assert runs(world) == {"high": 1}


def test_a_higher_queue_is_asked_before_a_slot_goes_to_a_message_of_a_lower_one_in_hand():
    # given one slot that is busy, a lower message in hand, and no poll of the higher queue
    world = World(HIGH, LOW, replace(LOW, name="low2", logical="low2"))
    world.later(LISTEN_SECONDS)
    bring(world, "low", 1)
    bring(world, "low2", 1)
    world.arrive(queue="high")
    world.later(3)
    assert runs(world) == {"low": 1}
    assert "high" not in world.polls

    # when the slot is free
    finish(world)

    # then the higher queue is listened to for a moment, and what it brings goes first
    assert not runs(world)
    assert "high" in world.polls
    bring(world, "high", 1)
    assert runs(world) == {"high": 1}


def test_while_a_higher_queue_has_a_backlog_nothing_of_a_lower_is_begun():
    # given two slots, and a higher queue whose polls are all full
    world = World(HIGH, LOW, slots=2)
    begun = Counter()
    for _ in range(200):
        if "high" in world.polls:
            bring(world, "high", 10)
        if "low" in world.polls:
            bring(world, "low", 10)
        begun += runs(world)
        for slot in list(world.running):
            world.report(slot=slot)
        world.settle()
        world.later(0.01)

    # then the other never had a turn
    assert begun["low"] == 0
    assert begun["high"] > 200


def test_when_the_higher_queue_is_empty_the_lower_has_all_slots():
    world = World(HIGH, LOW, slots=2)
    bring(world, "high", 2)
    for slot in list(world.running):
        world.report(slot=slot)
    world.settle()
    world.later(LISTEN_SECONDS)  # the next poll of the higher queue brings nothing

    bring(world, "low", 2)

    assert runs(world) == {"low": 2}


def test_a_worker_full_of_lower_messages_runs_a_higher_one_next():
    # given a worker that holds twenty messages of the lower queue beyond its slot
    world = learnt_to_be_short(HIGH, LOW)
    assert bring(world, "low", 20) == 20
    assert runs(world) == {"low": 1}

    # when the poll of the higher queue brings more than one
    assert bring(world, "high", 3) == 3

    # then they run next, whatever was there before
    for _ in range(3):
        finish(world)
        assert runs(world) == {"high": 1}
    finish(world)
    assert runs(world) == {"low": 1}


def test_a_trickle_of_higher_messages_does_not_keep_the_lower_queue_from_being_asked():
    # given a higher queue with a message every few hundredths of a second, and slots to spare
    world = World(HIGH, LOW, slots=4)
    world.later(LISTEN_SECONDS)
    ran = Counter()
    for _ in range(50):
        bring(world, "high", 1)
        if "low" in world.polls:
            bring(world, "low", 1)
        ran += runs(world)
        for slot in list(world.running):
            world.report(slot=slot)
        world.settle()
        world.later(0.05)

    # then both are served
    assert ran["high"] == 50
    assert ran["low"] >= 40


def test_a_higher_queue_that_only_fails_keeps_no_lower_one_waiting():
    # given a higher queue of which every poll fails, which brings nothing
    world = World(HIGH, LOW)
    for _ in range(5):
        world.arrive(queue="high")
        world.later(0.2)

    assert set(world.polls) == {"high", "low"}


def test_a_higher_queue_at_its_own_limit_leaves_the_other_slots_to_the_lower():
    world = World(replace(HIGH, concurrency=1), LOW, slots=3)
    bring(world, "high", 3)
    world.later(LISTEN_SECONDS)
    bring(world, "low", 3)

    assert runs(world) == {"high": 1, "low": 2}


def test_long_tasks_of_a_lower_queue_keep_no_higher_message_in_a_busy_workers_hands():
    """It would wait here while another worker is free."""
    world = World(HIGH, LOW, slots=2)
    world.later(LISTEN_SECONDS)
    bring(world, "low", 2)
    world.arrive(queue="high")

    world.later(60)

    assert runs(world) == {"low": 2}
    assert "high" not in world.polls


def test_what_waited_behind_a_higher_queue_says_nothing_of_how_long_tasks_take():
    # given short tasks, some lower ones in hand, and a higher queue that keeps the slot busy
    world = learnt_to_be_short(HIGH, LOW)
    bring(world, "low", 10)
    before = world.core.snapshot()["capacity"]
    for _ in range(60):
        if "high" in world.polls:
            bring(world, "high", 10)
        finish(world, 0.1)

    # then the lower ones have gone back, and as much is fetched as before
    released = [each for each in world.notes if each.event == "released"]
    assert {note.delivery.queue for note in released} == {"low"}
    assert world.core.snapshot()["capacity"] >= before / 2


def test_without_ranks_nobody_listens():
    world = World(replace(HIGH, rank=0), replace(LOW, rank=0))

    assert set(world.polls) == {"high", "low"}
    assert world.core.next_wakeup(world.now) is None


def test_a_stop_gives_back_what_waited_for_a_higher_queue():
    world = World(HIGH, LOW)
    world.later(LISTEN_SECONDS)
    bring(world, "low", 1)
    bring(world, "high", 1)
    world.core.on_stop("warm", world.now)
    world.act()
    for queue in list(world.polls):
        world.arrive(queue=queue)

    assert [type(each) for each in world.settling] == [v.Release]
    finish(world)
    world.settle()
    assert world.done


# -- limits ----------------------------------------------------------------------------------------


def test_slow_tasks_take_no_more_slots_than_their_limit_and_the_others_are_free_at_once():
    slow, fast = replace(QUEUE, name="slow", logical="slow", concurrency=2), replace(QUEUE, name="fast", logical="fast")
    world = World(slow, fast, slots=4)
    bring(world, "slow", 10)
    ran = Counter()
    for _ in range(50):
        if "fast" in world.polls:
            bring(world, "fast", 10)
        ran += runs(world)
        for slot in [slot for slot, each in world.running.items() if each.delivery.queue == "fast"]:
            world.report(slot=slot)
        world.settle()
        world.later(0.01)

    assert runs(world)["slow"] == 2
    assert ran["fast"] >= 90


def test_no_more_of_a_limited_queue_is_held_than_runs_while_its_own_tasks_are_long():
    """What another queue's short tasks say of the buffer is nothing to it."""
    slow, fast = replace(QUEUE, name="slow", logical="slow", concurrency=2), replace(QUEUE, name="fast", logical="fast")
    world = World(slow, fast, slots=4)
    for _ in range(20):
        bring(world, "fast", 2)
        for slot in list(world.running):
            world.report(slot=slot)
        world.settle()
        world.later(0.001)
    assert world.core.snapshot()["capacity"] > 20

    for _ in range(5):
        if "slow" in world.polls:
            bring(world, "slow", 10)
        world.later(1)

    assert in_hand(world, "slow") == 2


def test_a_limited_queue_of_short_tasks_is_received_in_tens():
    world = World(replace(QUEUE, concurrency=2), slots=4)
    asked = []
    for _ in range(60):
        if "q" in world.polls:
            asked.append(world.polls["q"])
            bring(world, "q", 10)
        for slot in list(world.running):
            world.report(slot=slot)
        world.settle()
        world.later(0.001)

    assert asked[-1] == 10


# -- polls in turn ---------------------------------------------------------------------------------


def test_no_more_polls_are_open_than_allowed_and_all_queues_have_their_turn():
    queues = [replace(QUEUE, name=f"q{number}", logical=f"q{number}") for number in range(30)]
    world = World(*queues, open_polls=10)
    asked = Counter()
    for _ in range(30):
        assert len(world.polls) == 10
        first = next(iter(world.polls))
        asked[first] += 1
        world.arrive(queue=first)

    assert asked == {queue.name: 1 for queue in queues}


def test_a_queue_with_more_messages_does_not_wait_for_its_turn():
    queues = [replace(QUEUE, name=f"q{number}", logical=f"q{number}") for number in range(30)]
    world = World(*queues, open_polls=2)
    for _ in range(50):
        bring(world, "q0", 1)
        while world.running:
            finish(world)

    assert sum(world.ran.values()) == 50


@pytest.mark.parametrize(("most", "seconds"), [(1, 2.0), (2, 0.001), (2, 2.0), (3, 0.001), (3, 2.0), (10, 2.0)])
def test_queues_that_always_have_more_shut_out_none_of_the_others(most, seconds):
    # given twelve queues that always have more and eight that are empty, and polls for a few of them
    queues = [replace(QUEUE, name=f"q{number}", logical=f"q{number}") for number in range(20)]
    world = World(*queues, slots=2, open_polls=most)
    asked = Counter()

    # when each poll is answered, and tasks run, for a while
    for _ in range(400):
        for name in list(world.polls):
            asked[name] += 1
            if int(name[1:]) < 12:
                bring(world, name, world.polls[name])
            else:
                world.arrive(queue=name)
        world.later(seconds)
        for slot in list(world.running):
            world.report(slot=slot)
        world.settle()

    # then each has been asked, and of those that have more none much less than another
    assert len(asked) == 20
    busy = [asked[f"q{number}"] for number in range(12)]
    assert min(busy) >= max(busy) - 5, asked


def test_queues_that_always_have_more_keep_most_polls_to_themselves():
    # given ten queues, two of which have messages, and three polls, of which one is on an empty queue
    queues = [replace(QUEUE, name=f"q{number}", logical=f"q{number}") for number in range(10)]
    world = World(*queues, slots=4, open_polls=3)
    while not {"q0", "q1"} <= world.polls.keys():
        world.arrive(queue=next(name for name in world.polls if name not in ("q0", "q1")))
    bring(world, "q0", 1)
    bring(world, "q1", 1)

    # when they bring something again and again
    for _ in range(50):
        for name in ("q0", "q1"):
            bring(world, name, 1)
        for slot in list(world.running):
            world.report(slot=slot)
        world.settle()

    # then they have their polls back each time
    assert sum(world.ran.values()) == 102


# -- ready queues ----------------------------------------------------------------------------------


def drain(ready, floor=0):
    taken = []
    while (tag := ready.pick(floor)) is not None:
        taken.append(tag)
    return taken


def test_shares_of_turns_follow_weights():
    ready = ReadyQueues()
    ready.share({"a": Share(weight=3), "b": Share(weight=1)})
    for tag in range(40):
        ready.add("a", tag)
        ready.add("b", 100 + tag)

    first = [ready.pick() for _ in range(40)]

    assert sum(tag < 100 for tag in first) == 30


def test_higher_ranks_come_first_and_a_floor_stops_the_rest():
    ready = ReadyQueues()
    ready.share({"a": Share(rank=1), "b": Share(rank=5), "c": Share(rank=3)})
    for tag, queue in enumerate("aabbcc"):
        ready.add(queue, tag)

    assert ready.top_rank() == 5
    assert drain(ready, floor=3) == [2, 3, 4, 5]
    assert ready.top_rank() == 1
    assert drain(ready) == [0, 1]


def test_queues_of_one_rank_take_turns():
    ready = ReadyQueues()
    ready.share({"a": Share(rank=5), "b": Share(rank=5), "c": Share()})
    for queue, tags in {"c": [20, 21], "b": [10, 11, 12], "a": [0, 1, 2]}.items():
        for tag in tags:
            ready.add(queue, tag)

    assert drain(ready) == [0, 10, 1, 11, 2, 12, 20, 21]


def test_a_blocked_queue_has_no_turn_until_it_is_free_and_is_counted():
    ready = ReadyQueues()
    for tag in range(3):
        ready.add("a", tag)
    ready.add("b", 10)
    ready.block("a")
    ready.block("a")
    ready.add("a", 3)

    assert (ready.blocked, ready.is_blocked("a")) == (4, True)
    assert drain(ready) == [10]
    ready.remove("a", 1)
    assert ready.blocked == 3
    ready.unblock("a")
    assert (ready.blocked, drain(ready)) == (0, [0, 2, 3])


def test_a_queue_that_is_blocked_and_freed_again_and_again_runs_each_once():
    ready = ReadyQueues()
    for tag in range(5):
        ready.add("a", tag)
    taken = []
    for _ in range(5):
        ready.block("a")
        ready.unblock("a")
        taken.append(ready.pick())

    assert taken == [0, 1, 2, 3, 4]
    assert ready.pick() is None


def test_it_is_told_when_a_queue_begins_and_ceases_to_have_any():
    told = []
    ready = ReadyQueues(told.append)
    ready.add("a", 1)
    ready.add("a", 2)
    ready.pick()
    ready.remove("a", 2)

    assert told == ["a", "a"]
