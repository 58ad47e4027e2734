"""The worker's decisions, one story each."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import pytest

from pyqs_celery.worker.core import values as v
from tests.unit.worker.core_harness import QUEUE, World, body

FIFO = replace(QUEUE, name="o.fifo", logical="o.fifo", fifo=True, dead_letter_queue="o-dlq.fifo")


def iso(instant: float) -> str:
    return datetime.fromtimestamp(instant, timezone.utc).isoformat()


def kinds(actions: list[object]) -> list[str]:
    return [type(action).__name__ for action in actions]


# -- the ordinary life ---------------------------------------------------------------------------------


def test_a_message_is_deleted_after_its_task_has_succeeded_and_not_before():
    world = World()
    world.arrive(world.delivery())
    assert list(world.running) == [0]
    assert not world.settling

    world.report("succeeded")

    [ack] = world.settling
    assert isinstance(ack, v.Ack)
    assert ack.delivery.message_id == "m1"


@pytest.mark.parametrize("kind", ["succeeded", "retried", "ignored", "expired"])
def test_what_is_over_is_deleted(kind):
    world = World()
    world.arrive(world.delivery())

    world.report(kind)

    assert kinds(world.settling) == ["Ack"]


def test_more_is_fetched_only_for_free_slots_at_first():
    world = World(slots=3)

    assert world.polls == {"q": 3}
    world.arrive(*(world.delivery(f"m{number}") for number in range(3)))
    assert not world.polls


def test_short_tasks_are_fetched_by_the_ten():
    world = World(slots=4)
    world.arrive(*(world.delivery(f"m{number}") for number in range(4)))
    world.now += 0.001
    for slot in range(4):
        world.report("succeeded", slot)

    assert world.polls == {"q": 10}


def test_long_tasks_leave_nothing_waiting_here():
    world = World(slots=2)
    world.arrive(world.delivery("a"), world.delivery("b"))
    world.now += 30
    world.report("succeeded", 0)

    assert world.polls == {"q": 1}


def test_what_waits_long_behind_a_long_task_goes_back():
    # given a worker that knows only short tasks, has fetched some more, and got a long one
    world = World()
    world.arrive(world.delivery("short"))
    world.now += 0.01
    world.report("succeeded")
    world.settle()
    world.arrive(world.delivery("long"), world.delivery("m1"), world.delivery("m2"))

    # when five seconds have passed
    world.later(5.1)

    # then another worker may have what waits, and no more is fetched
    releases = world.settle()
    assert [(type(each), each.delivery.message_id, each.delay_seconds) for each in releases] == [
        (v.Release, "m1", 0),
        (v.Release, "m2", 0),
    ]
    world.polls.clear()
    world.act()
    assert not world.polls
    assert world.core.snapshot()["capacity"] == 1


def test_what_sqs_would_not_deliver_again_waits_for_its_turn():
    world = World(replace(QUEUE, max_receive_count=2))
    world.arrive(world.delivery("short"))
    world.now += 0.01
    world.report("succeeded")
    world.settle()
    world.arrive(world.delivery("long"), world.delivery("m1", receive_count=1), world.delivery("m2", receive_count=2))

    world.later(5.1)

    assert [each.delivery.message_id for each in world.settle()] == ["m1"]
    world.report("succeeded")
    assert {each.delivery.message_id for each in world.running.values()} == {"m2"}


def test_where_somebody_has_said_how_much_to_hold_it_is_held():
    world = World(prefetch_multiplier=4)
    world.arrive(world.delivery("long"), world.delivery("m1"))

    world.later(15)

    assert world.settling == []


def test_a_quiet_queue_is_not_shut_out_by_a_busy_one():
    quiet = replace(QUEUE, name="quiet", logical="quiet")
    world = World(QUEUE, quiet, slots=2, prefetch_multiplier=4)
    world.arrive(*(world.delivery(f"m{number}") for number in range(8)))

    assert "quiet" in world.polls


def test_a_queue_can_be_held_to_a_number_of_slots():
    bulk = replace(QUEUE, name="bulk", logical="bulk", concurrency=1)
    world = World(bulk, QUEUE, slots=2)
    world.arrive(world.delivery("b1", "bulk"), world.delivery("b2", "bulk"), queue="bulk")
    assert len(world.running) == 1

    world.arrive(world.delivery("m1"))

    assert {dispatch.delivery.queue for dispatch in world.running.values()} == {"bulk", "q"}


def test_the_simple_worker_holds_only_what_runs():
    world = World(slots=2, simple=True)
    assert world.polls == {"q": 1}
    world.arrive(world.delivery("a"))
    assert world.polls == {"q": 1}
    world.arrive(world.delivery("b"))

    assert not world.polls


# -- what does not succeed -----------------------------------------------------------------------------


def test_a_failure_comes_back_after_the_queues_visibility_timeout():
    world = World()
    world.arrive(world.delivery())

    world.report("failed", reason="ValueError()")

    [release] = world.settling
    assert (type(release), release.delay_seconds) == (v.Release, 30)


def test_a_failure_is_moved_at_its_fifth_delivery_where_sqs_does_not():
    world = World()
    world.arrive(world.delivery(receive_count=5))
    assert world.running[0].last

    world.report("failed", reason="ValueError()", exception="ValueError")

    [move] = world.settling
    assert (move.target, move.reason, move.exception) == ("q-dlq", "ValueError()", "ValueError")


def test_where_sqs_counts_receipts_the_worker_does_not_move():
    world = World(replace(QUEUE, max_receive_count=7))
    world.arrive(world.delivery(receive_count=6))
    assert not world.running[0].last

    world.report("failed")

    assert kinds(world.settling) == ["Release"]


def test_a_task_that_gave_up_its_retries_is_moved_at_once():
    world = World()
    world.arrive(world.delivery())

    world.report("failed", exhausted=True)

    assert kinds(world.settling) == ["DeadLetter"]


@pytest.mark.parametrize(
    ("policy", "facts"),
    [
        (v.TaskPolicy(ack_on_failure=True), {}),
        (v.TaskPolicy(ack_on_timeout=True), {"timed_out": True}),
    ],
)
def test_an_application_that_wants_failures_deleted_gets_it(policy, facts):
    world = World(policy=policy)
    world.arrive(world.delivery())

    world.report("failed", **facts)

    assert kinds(world.settling) == ["Ack"]


def test_a_backoff_policy_of_the_queue_sets_the_delay():
    world = World(replace(QUEUE, backoff={1: 10, 2: 20, 4: 80}))
    for count, delay in ((1, 10), (2, 20), (3, 20), (4, 80)):
        world.arrive(world.delivery(f"m{count}", receive_count=count))
        world.report("failed")
        assert [each.delay_seconds for each in world.settle()] == [delay]


def test_without_any_dead_letter_queue_failures_come_back_ever_later():
    world = World(replace(QUEUE, dead_letter_queue=None))
    delays = []
    for count in (1, 5, 6, 30):
        world.arrive(world.delivery(f"m{count}", receive_count=count))
        world.report("failed")
        delays.extend(each.delay_seconds for each in world.settle())

    assert delays == [30, 60, 120, 43_200]


def test_unknown_tasks_wait_for_a_newer_worker_and_are_told_once():
    world = World()
    delays = []
    for count in (1, 2, 3, 20):
        world.arrive(world.delivery("m", text=body("not.mine", "m"), receive_count=count))
        delays.extend(each.delay_seconds for each in world.settle())

    assert delays == [5, 10, 20, 300]
    assert world.events() == ["unknown"]
    assert not world.running


def test_what_cannot_be_read_is_moved_at_once():
    world = World()
    world.arrive(world.delivery(text="nonsense"))

    assert kinds(world.settle()) == ["DeadLetter"]
    assert world.events() == ["undecodable", "dead_lettered"]


def test_expired_messages_are_deleted_unrun():
    world = World()
    world.arrive(world.delivery(text=body(expires=iso(world.now - 1))))

    assert kinds(world.settling) == ["Ack"]
    assert not world.running


# -- children ------------------------------------------------------------------------------------------


def test_a_lost_child_costs_a_failed_delivery_with_growing_gaps():
    world = World()
    delays = []
    for count in (1, 2, 3, 4, 5):
        world.arrive(world.delivery(f"m{count}", receive_count=count))
        world.lose()
        if world.running:
            world.report("failed")  # the last one is recorded first
        delays.extend(
            getattr(each, "target", each.delay_seconds if hasattr(each, "delay_seconds") else None)
            for each in world.settle()
        )

    assert delays == [1, 2, 4, 8, "q-dlq"]


def test_reject_on_worker_lost_false_deletes_it_as_celery_does():
    world = World(policy=v.TaskPolicy(reject_on_worker_lost=False))
    world.arrive(world.delivery())

    world.lose()
    world.report("failed")

    assert kinds(world.settling) == ["Ack"]


def test_a_hard_time_limit_kills_and_counts_as_a_timed_out_failure():
    world = World(policy=v.TaskPolicy(hard_time_limit=10))
    world.arrive(world.delivery())
    world.later(9.9)
    assert not world.kills
    world.later(0.2)
    assert [(kill.slot, kill.reason) for kill in world.kills] == [(0, "hard time limit")]

    world.core.on_slot_lost(0, "signal 9", world.now)
    world.act()

    assert kinds(world.settling) == ["Release"]
    assert world.notes[-1].outcome.timed_out


def test_a_report_that_comes_just_before_the_kill_counts_and_its_slot_gets_nothing_new():
    world = World(policy=v.TaskPolicy(hard_time_limit=10))
    world.arrive(world.delivery())
    world.later(11)

    world.report("succeeded")
    world.core.on_slot_lost(0, "signal 9", world.now)

    assert kinds(world.settle()) == ["Ack"]
    assert world.core.is_idle(0)
    assert not world.running


def test_the_limits_of_the_call_win_over_the_tasks():
    world = World(policy=v.TaskPolicy(hard_time_limit=100, soft_time_limit=50))
    world.arrive(world.delivery(text=body(timelimit=[7, 3])))

    assert (world.running[0].hard_time_limit, world.running[0].soft_time_limit) == (7, 3)


# -- early acks ----------------------------------------------------------------------------------------


def test_an_early_ack_does_not_wait_for_the_deletion():
    world = World(policy=v.TaskPolicy(acks_late=False))
    world.arrive(world.delivery())

    assert kinds(world.settling) == ["Ack"]
    assert list(world.running) == [0]
    world.settle()
    world.report("failed")
    assert not world.settling


def test_an_early_ack_waits_where_that_is_asked_for():
    world = World(policy=v.TaskPolicy(acks_late=False), ack_before_run_waits=True)
    world.arrive(world.delivery())
    assert not world.running

    world.settle()
    assert list(world.running) == [0]


def test_and_a_task_is_not_run_if_its_message_could_not_be_deleted_first():
    world = World(policy=v.TaskPolicy(acks_late=False), ack_before_run_waits=True)
    world.arrive(world.delivery())

    world.settle(ok=False)

    assert not world.running
    assert kinds(world.settling) == ["Release"]


# -- time ----------------------------------------------------------------------------------------------


def test_far_etas_hop_near_ones_are_held_and_due_ones_run():
    world = World(slots=3)
    world.arrive(
        world.delivery("far", text=body(eta=iso(world.now + 5000))),
        world.delivery("near", text=body(eta=iso(world.now + 1.5))),
        world.delivery("due", text=body(eta=iso(world.now - 1))),
    )

    [hop] = world.settling
    assert (hop.delivery.message_id, hop.delay_seconds) == ("far", 900)
    assert [dispatch.delivery.message_id for dispatch in world.running.values()] == ["due"]
    world.later(1.4)
    assert len(world.running) == 1
    world.later(0.2)
    assert len(world.running) == 2


def test_on_fifo_queues_etas_are_parked_where_receipts_allow_it():
    world = World(FIFO)
    world.arrive(world.delivery("m", "o.fifo", body(eta=iso(world.now + 5000)), group_id="g"), queue="o.fifo")
    assert [(type(each), each.delay_seconds) for each in world.settling] == [(v.Release, 5000)]

    counted = World(replace(FIFO, max_receive_count=2))
    counted.arrive(counted.delivery("m", "o.fifo", body(eta=iso(counted.now + 5000)), group_id="g"), queue="o.fifo")
    assert not counted.settling  # parking would use up the last receipt, so it is held under its lease


# -- leases --------------------------------------------------------------------------------------------


def test_leases_are_renewed_at_a_third_ten_to_a_request():
    world = World(slots=12, prefetch_multiplier=2)
    world.arrive(*(world.delivery(f"m{number}") for number in range(10)))
    world.arrive(*(world.delivery(f"n{number}") for number in range(2)))

    world.later(19)
    assert not world.extends
    world.later(2)

    assert sorted(len(each.tags) for each in world.extends) == [2, 10]
    assert {each.seconds for each in world.extends} == {60}
    world.extend()
    world.later(19)
    assert not world.extends


def test_a_renewal_without_an_answer_is_tried_again_before_the_lease_ends():
    world = World()
    world.arrive(world.delivery())
    tries = 0
    for _ in range(60):
        world.later(1)
        tries += len(world.extends)
        world.extend(ok=False)

    assert tries >= 3
    assert world.events().count("lease_lost") == 1


def test_a_lost_lease_is_said_and_its_success_still_deleted():
    world = World()
    world.arrive(world.delivery())
    world.later(21)
    world.extend(ok=False, lost=True)
    assert "lease_lost" in world.events()

    world.report("succeeded")

    assert kinds(world.settling) == ["Ack"]
    assert "repeated" in world.events()


def test_an_unstarted_message_whose_lease_is_lost_is_forgotten():
    world = World(slots=1, prefetch_multiplier=2)
    world.arrive(world.delivery("a"), world.delivery("b"))
    world.later(21)
    world.extend(ok=False, lost=True)

    world.report("succeeded")

    assert world.ran == {"a": 1}


def test_the_same_message_received_again_never_runs_beside_itself():
    world = World(slots=2)
    world.arrive(world.delivery("m"))
    world.arrive(again := world.delivery("m", receive_count=2))

    assert world.ran == {"m": 1}
    world.report("succeeded")
    [ack] = world.settling
    assert ack.delivery.receipt_handle == again.receipt_handle


def test_after_twelve_hours_nothing_more_is_asked_for():
    world = World(max_lease_seconds=200)
    world.arrive(world.delivery())
    for _ in range(40):
        world.later(10)
        world.extend()

    assert world.events().count("lease_limit") == 1
    assert world.events().count("lease_lost") == 1


# -- FIFO ----------------------------------------------------------------------------------------------


def orders(world: World, *names: str, group: str = "g", **facts):
    return [world.delivery(name, "o.fifo", group_id=group, **facts) for name in names]


def test_a_group_runs_one_at_a_time_after_the_deletion_is_confirmed():
    world = World(FIFO, slots=3)
    world.arrive(*orders(world, "1", "2", "3"), queue="o.fifo")
    assert world.ran == {"1": 1}

    world.report("succeeded")
    assert world.ran == {"1": 1}
    world.settle()

    assert world.ran == {"1": 1, "2": 1}


def test_behind_a_failure_the_rest_of_the_group_goes_back_unrun():
    world = World(FIFO, slots=3)
    world.arrive(*orders(world, "1", "2"), *orders(world, "x", group="other"), queue="o.fifo")

    world.report("failed")

    assert [(each.delivery.message_id, each.delay_seconds) for each in world.settling] == [("1", 30), ("2", 0)]
    assert world.ran == {"1": 1, "x": 1}


def test_while_one_fails_single_messages_are_taken():
    """Else each receipt of the failing one would bring its followers nearer to the dead-letter queue."""
    world = World(FIFO, slots=3)
    world.arrive(*orders(world, "1", "2"), queue="o.fifo")
    world.report("failed")
    world.settle()
    world.arrive(queue="o.fifo")  # the poll that was open when it failed

    assert world.polls == {"o.fifo": 1}
    world.later(120)
    world.arrive(queue="o.fifo")
    assert world.polls["o.fifo"] > 1


# -- settling ------------------------------------------------------------------------------------------


def test_a_deletion_that_was_given_up_is_said():
    world = World()
    world.arrive(world.delivery())
    world.report("succeeded")

    world.settle(ok=False, detail="SQS said no")

    assert world.notes[-1].event == "repeated"


def test_a_queue_from_which_we_may_not_delete_is_rested_ever_longer():
    world = World()
    for rest in (60, 120):
        world.arrive(world.delivery(f"m{rest}"))
        world.report("succeeded")
        world.settle(ok=False, forbidden=True)
        world.arrive()  # the poll that was open by then
        assert not world.polls

        world.later(rest - 1)
        assert not world.polls
        world.later(2)
        assert world.polls


# -- stopping ------------------------------------------------------------------------------------------


def test_a_stop_gives_back_only_after_the_open_poll_has_returned():
    world = World(slots=1, prefetch_multiplier=3)
    world.arrive(world.delivery("a"), world.delivery("b"))
    world.report("succeeded")
    world.settle()
    assert world.ran == {"a": 1, "b": 1}
    assert "q" in world.polls  # nothing waits, so more is asked for

    world.core.on_stop("warm", world.now)
    world.act()
    assert not world.settling
    world.arrive(world.delivery("late"), world.delivery("later"))

    assert [(type(each), each.delivery.message_id, each.delay_seconds) for each in world.settle()] == [
        (v.Release, "late", 0),
        (v.Release, "later", 0),
    ]
    assert not world.done
    world.report("succeeded")
    world.settle()
    assert world.done
    assert not world.polls


def test_a_stop_gives_back_at_once_where_no_poll_is_open():
    world = World(slots=1, prefetch_multiplier=3)
    world.arrive(world.delivery("a"), world.delivery("b"))
    assert not world.polls

    world.core.on_stop("warm", world.now)
    world.act()

    assert [each.delivery.message_id for each in world.settling] == ["b"]


def test_at_the_deadline_running_tasks_are_stopped_and_go_back():
    world = World(shutdown_timeout=25)
    world.arrive(world.delivery())
    world.core.on_polled("q", [], world.now)
    world.core.on_stop("warm", world.now)
    world.later(24.9)
    assert not world.kills
    world.later(0.2)
    assert [kill.reason for kill in world.kills] == ["shutdown"]

    world.core.on_slot_lost(0, "signal 9", world.now)
    world.act()

    assert [each.delay_seconds for each in world.settle()] == [0]
    world.act()
    assert world.done


def test_a_harder_stop_wins_over_a_softer_one_and_not_the_other_way_round():
    world = World(shutdown_timeout=1000, soft_shutdown_timeout=5)
    world.arrive(world.delivery())
    world.core.on_stop("soft", world.now)
    world.core.on_stop("warm", world.now)
    world.later(6)

    assert world.kills


def test_an_idle_worker_stops_at_once():
    world = World()
    world.core.on_polled("q", [], world.now)
    world.core.on_stop("warm", world.now)
    world.act()

    assert world.done
