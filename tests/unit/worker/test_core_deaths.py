"""What the worker does about a task whose process has died: whose failure is final is recorded, once, before it is settled."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pyqs_celery.worker.core import values as v
from pyqs_celery.worker.core.recordings import RECORDING_SECONDS
from tests.unit.worker.core_harness import QUEUE, World, body

FIFO = replace(QUEUE, name="o.fifo", logical="o.fifo", fifo=True, dead_letter_queue="o-dlq.fifo")
COUNTED = replace(QUEUE, max_receive_count=3)
LAST = {"receive_count": 5}


def kinds(actions: list[object]) -> list[str]:
    return [type(action).__name__ for action in actions]


def died(*queues: v.QueuePolicy, policy: v.TaskPolicy | None = None, slots: int = 1, count: int = 1) -> World:
    """A world whose one running task has lost its process, where another child is ready."""
    world = World(*queues, policy=policy, slots=slots)
    world.arrive(world.delivery(receive_count=count))
    if policy is not None and policy.hard_time_limit:
        world.later(policy.hard_time_limit + 1)
    world.lose()
    return world


# -- which deaths are final ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("queue", "policy", "count", "settled"),
    [
        (QUEUE, v.TaskPolicy(), 5, "DeadLetter"),
        (COUNTED, v.TaskPolicy(), 3, "Release"),
        (replace(QUEUE, dead_letter_queue=None), v.TaskPolicy(), 5, "Release"),
        (QUEUE, v.TaskPolicy(reject_on_worker_lost=False), 1, "Ack"),
    ],
    ids=["we move it", "sqs moves it", "nobody moves it", "the application wants it deleted"],
)
def test_a_loss_that_is_final_is_recorded_and_then_settled_as_was_decided(queue, policy, count, settled):
    world = died(queue, policy=policy, count=count)

    recording = world.running[0]
    assert recording.fault == v.Fault("WorkerLostError", "signal 9")
    assert recording.last
    assert not world.settling
    world.report("failed")

    assert kinds(world.settle()) == [settled]
    assert world.recorded == world.ran == {"m1": 1}
    assert world.core.snapshot()["states"] == {}


@pytest.mark.parametrize(
    ("queue", "policy", "count", "settled"),
    [
        (QUEUE, v.TaskPolicy(hard_time_limit=10), 5, "DeadLetter"),
        (COUNTED, v.TaskPolicy(hard_time_limit=10), 3, "Release"),
        (QUEUE, v.TaskPolicy(hard_time_limit=10, ack_on_timeout=True), 1, "Ack"),
    ],
)
def test_so_is_a_hard_time_limit_that_is_final(queue, policy, count, settled):
    world = died(queue, policy=policy, count=count)

    assert world.running[0].fault == v.Fault("TimeLimitExceeded", "10")
    world.report("failed")

    assert kinds(world.settling) == [settled]


@pytest.mark.parametrize("policy", [v.TaskPolicy(), v.TaskPolicy(hard_time_limit=10)])
def test_what_comes_back_is_not_recorded(policy):
    world = died(policy=policy)

    assert kinds(world.settle()) == ["Release"]
    assert not world.recorded


def test_what_a_stop_kills_is_not_recorded():
    world = World(shutdown_timeout=25)
    world.arrive(world.delivery(**LAST))
    world.core.on_stop("cold", world.now)
    world.act()
    world.lose(revive=False)

    assert [(type(each), each.delay_seconds) for each in world.settling] == [(v.Release, 0)]
    assert not world.recorded


# -- what has expired ----------------------------------------------------------------------------------


def test_what_has_expired_is_recorded_where_results_are_kept():
    world = World(keeps_results=True)
    world.arrive(world.delivery(text=body(expires="1970-01-01T00:00:00+00:00")))

    assert world.running[0].fault == v.Fault("TaskRevokedError", "expired")
    assert not world.settling
    world.report("expired")

    assert kinds(world.settle()) == ["Ack"]
    assert world.events() == ["expired"]
    assert not world.ran
    assert world.core.snapshot()["states"] == {}


def test_it_is_deleted_all_the_same_if_the_recording_child_dies():
    world = World(keeps_results=True)
    world.arrive(world.delivery(text=body(expires="1970-01-01T00:00:00+00:00")))

    world.lose()

    assert kinds(world.settling) == ["Ack"]


# -- early acks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("deleted_first", [True, False])
def test_a_message_deleted_early_leaves_nothing_to_settle(deleted_first):
    world = World(policy=v.TaskPolicy(acks_late=False))
    world.arrive(world.delivery())
    if deleted_first:
        world.settle()
    world.lose()
    assert world.running[0].fault is not None
    if not deleted_first:
        world.settle()

    world.report("failed")

    assert not world.settling
    assert world.core.snapshot()["states"] == {}


def test_a_child_that_dies_before_the_deletion_was_confirmed_has_lost_its_task():
    world = World(policy=v.TaskPolicy(acks_late=False), ack_before_run_waits=True)
    world.arrive(world.delivery())
    world.lose()
    assert not world.running

    world.settle()

    assert world.running[0].fault is not None
    world.report("failed")
    assert world.core.snapshot()["states"] == {}


def test_and_keeps_it_if_the_deletion_failed():
    world = World(policy=v.TaskPolicy(acks_late=False), ack_before_run_waits=True)
    world.arrive(world.delivery())
    world.lose()

    world.settle(ok=False)

    assert kinds(world.settle()) == ["Release"]
    assert not world.recorded


# -- while it waits to be recorded ---------------------------------------------------------------------


def test_its_lease_is_renewed_until_it_is_settled():
    world = World()
    world.arrive(world.delivery(**LAST))
    world.lose(revive=False)

    for _ in range(6):
        world.later(21)
        assert [each.tags for each in world.extends] == [(1,)]
        world.extend()

    assert world.core.snapshot()["states"] == {"unrecorded": 1}


def test_it_goes_before_everything_that_is_ready():
    world = World(prefetch_multiplier=3)
    world.arrive(world.delivery("dies", **LAST), world.delivery("waits"))
    world.lose()

    assert world.running[0].delivery.message_id == "dies"
    world.report("failed")
    assert world.running[0].delivery.message_id == "waits"


def test_another_child_that_is_idle_takes_it_at_once():
    world = World(slots=2)
    world.arrive(world.delivery(**LAST))
    world.lose(revive=False)

    assert list(world.running) == [1]


def test_a_fifo_group_waits_for_the_recording_and_the_settlement():
    world = World(FIFO, slots=3, policy=v.TaskPolicy(reject_on_worker_lost=False))
    world.arrive(*(world.delivery(name, "o.fifo", group_id="g") for name in ("1", "2")), queue="o.fifo")
    world.lose()
    [slot] = world.running
    assert world.ran == {"1": 1}

    world.report("failed", slot)
    assert world.ran == {"1": 1}
    world.settle()

    assert world.ran == {"1": 1, "2": 1}


def test_behind_a_release_the_group_goes_back_only_then():
    world = World(FIFO, slots=3)
    world.arrive(
        world.delivery("1", "o.fifo", group_id="g", **LAST), world.delivery("2", "o.fifo", group_id="g"), queue="o.fifo"
    )
    world.lose()
    assert not world.settling

    world.report("failed", *world.running)

    assert [(type(each), each.delivery.message_id) for each in world.settling] == [(v.DeadLetter, "1")]


def test_a_lost_lease_is_told_and_what_can_be_done_is_done():
    world = World()
    world.arrive(world.delivery(**LAST))
    world.lose(revive=False)
    world.later(21)
    world.extend(ok=False, lost=True)
    assert "lease_lost" in world.events()

    world.core.on_slot_ready(0, world.now)
    world.act()
    world.report("failed")

    assert world.core.snapshot()["states"] == {}


# -- never twice, never for ever -----------------------------------------------------------------------


def test_if_the_recording_child_dies_too_it_is_settled_unrecorded():
    world = died(count=5)

    world.lose()

    assert kinds(world.settle()) == ["DeadLetter"]
    assert world.recorded == {"m1": 1}
    assert world.events().count("lost") == 1


def test_a_recording_that_never_ends_is_killed_and_settled():
    world = died(count=5)
    for _ in range(int(RECORDING_SECONDS) - 1):
        world.later(1)
        world.extend()
    assert not world.kills
    world.later(2)
    assert [kill.slot for kill in world.kills] == [0]

    world.lose()

    assert kinds(world.settling) == ["DeadLetter"]


def test_the_hard_time_limit_of_the_task_does_not_hold_for_its_recording():
    world = died(policy=v.TaskPolicy(hard_time_limit=10), count=5)
    del world.kills[:]

    world.later(30)

    assert not world.kills


def test_the_child_that_recorded_a_time_out_goes_on_working():
    world = died(policy=v.TaskPolicy(hard_time_limit=10), count=5)
    world.report("failed")
    world.settle()

    world.arrive(world.delivery("next"))

    assert world.running[0].delivery.message_id == "next"


@pytest.mark.parametrize("kind", ["failed", "unknown", "undecodable", "rejected"])
def test_whatever_the_recording_child_says_the_decision_stands(kind):
    world = died(policy=v.TaskPolicy(reject_on_worker_lost=False))

    world.report(kind, requeue=True)

    assert kinds(world.settling) == ["Ack"]


# -- stopping ------------------------------------------------------------------------------------------


def test_a_warm_stop_still_records_where_a_child_is_left():
    world = World(slots=2)
    world.arrive(world.delivery("dies", **LAST), world.delivery("runs"))
    world.core.on_stop("warm", world.now)
    world.lose(0, revive=False)
    assert not world.settling

    world.report("succeeded", 1)
    assert world.running[1].fault is not None
    world.report("failed", 1)

    assert kinds(world.settle()) == ["Ack", "DeadLetter"]


def test_a_stop_settles_unrecorded_where_no_child_is_left():
    world = World()
    world.arrive(world.delivery(**LAST))
    world.core.on_stop("warm", world.now)

    world.lose(revive=False)

    assert kinds(world.settling) == ["DeadLetter"]


def test_and_at_its_deadline_in_any_case():
    world = World(slots=2, shutdown_timeout=25)
    world.arrive(world.delivery("dies", **LAST), world.delivery("runs"))
    world.core.on_stop("warm", world.now)
    world.lose(0, revive=False)
    assert not world.settling

    world.later(25.1)

    assert kinds(world.settling) == ["DeadLetter"]


# -- finality that a running task is told of -----------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "count", "last", "last_timeout"),
    [
        (v.TaskPolicy(), 1, False, False),
        (v.TaskPolicy(), 5, True, True),
        (v.TaskPolicy(acks_late=False), 1, True, True),
        (v.TaskPolicy(ack_on_failure=True), 1, True, False),
        (v.TaskPolicy(ack_on_timeout=True), 1, False, True),
    ],
)
def test_a_failure_is_final_if_it_is_the_last_delivery_or_deletes_the_message(policy, count, last, last_timeout):
    world = World(policy=policy)
    world.arrive(world.delivery(receive_count=count))

    assert (world.running[0].last, world.running[0].last_timeout) == (last, last_timeout)


# -- ended on request ----------------------------------------------------------------------------------


def test_a_running_task_that_is_revoked_is_ended_recorded_and_deleted():
    world = World(slots=2)
    world.arrive(world.delivery("a"), world.delivery("b"))
    assert world.core.running_ids() == ["a", "b"]

    world.core.on_revoked({"a": 15, "unheard of": 15}, world.now)
    world.act()
    assert [(kill.slot, kill.reason, kill.signum) for kill in world.kills] == [(0, "revoked", 15)]
    world.lose(0)

    assert world.running[0].fault == v.Fault("Terminated", "15")
    world.report("revoked")
    assert [(type(each), each.delivery.message_id) for each in world.settling] == [(v.Ack, "a")]
    assert world.events() == ["received", "received", "terminating", "terminated"]
    assert world.core.running_ids() == ["b"]


def test_it_is_asked_to_end_but_once():
    world = World()
    world.arrive(world.delivery("a"))

    world.core.on_revoked({"a": 15}, world.now)
    world.core.on_revoked({"a": 9}, world.now)
    world.act()

    assert [kill.signum for kill in world.kills] == [15]
    assert world.events().count("terminating") == 1


def test_what_waits_for_its_early_deletion_does_not_run_yet():
    world = World(policy=v.TaskPolicy(acks_late=False), ack_before_run_waits=True)
    world.arrive(world.delivery("a"))

    assert world.core.running_ids() == []
    world.settle()

    assert world.core.running_ids() == ["a"]


def test_a_task_that_ends_just_before_has_ended():
    world = World()
    world.arrive(world.delivery("a"))
    world.core.on_revoked({"a": 15}, world.now)
    world.act()

    world.report("succeeded")
    world.lose()

    assert kinds(world.settling) == ["Ack"]
    assert "terminated" not in world.events()
    assert not world.recorded


def test_neither_what_waits_nor_a_recording_is_ended():
    world = World(prefetch_multiplier=3)
    world.arrive(world.delivery("a", **LAST), world.delivery("b"))
    world.lose()
    assert world.running[0].fault is not None

    world.core.on_revoked({"a": 15, "b": 15}, world.now)
    world.act()

    assert not world.kills
    assert world.core.running_ids() == []


def test_a_task_that_a_child_found_revoked_is_deleted_and_told():
    world = World()
    world.arrive(world.delivery())

    world.report("revoked")

    assert kinds(world.settling) == ["Ack"]
    assert world.events() == ["received", "revoked"]
