"""``rate_limit``: turns, and what becomes of messages whose turn is far."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pyqs_celery.app.options import starts_per_second
from pyqs_celery.exceptions import ImproperlyConfigured
from pyqs_celery.worker.core import values as v
from pyqs_celery.worker.core.rates import RateLimits
from tests.unit.worker.core_harness import QUEUE, World, body


@pytest.mark.parametrize(
    ("text", "per_second"),
    [
        ("10/s", 10),
        ("30/m", 0.5),
        ("36/h", 0.01),
        (2, 2.0),
        ("5", 5.0),
        (None, None),
        (0, None),
        ("0/m", None),
        ("", None),
    ],
)
def test_how_rates_are_written(text, per_second):
    assert starts_per_second(text) == (None if per_second is None else pytest.approx(per_second))


@pytest.mark.parametrize("text", ["ten", "1/d", "-1/s", [1], True])
def test_what_is_no_rate_is_refused(text):
    with pytest.raises(ImproperlyConfigured, match="rate_limit"):
        starts_per_second(text)


def test_turns_are_given_out_to_the_horizon_and_hints_beyond_it():
    limits = RateLimits()

    answers = [limits.ask("t", 1.0, 100.0, horizon=2.0) for _ in range(5)]

    assert [(turn.granted, turn.at) for turn in answers] == [
        (True, 100.0),
        (True, 101.0),
        (True, 102.0),
        (False, 103.0),
        (False, 104.0),
    ]


def test_a_bucket_saves_up_nothing():
    limits = RateLimits()
    limits.ask("t", 1.0, 100.0, horizon=2.0)

    late = [limits.ask("t", 1.0, 200.0, horizon=0.0) for _ in range(2)]

    assert [turn.granted for turn in late] == [True, False]


def test_a_near_turn_is_waited_for_without_a_slot_and_a_far_one_hops():
    # given a task that may start once a second, and five of its messages
    world = World(slots=5, policy=v.TaskPolicy(rate_limit=1.0))
    world.arrive(*(world.delivery(body(task_id=f"i{n}")) for n in range(5)))

    # then one runs, two are held, and two travel as delayed copies
    assert len(world.running) == 1
    hops = [each for each in world.settling if isinstance(each, v.Hop)]
    assert [hop.delay_seconds for hop in hops] == [3, 4]

    # when a second passes the next one runs
    world.later(1.0)
    assert len(world.running) == 2
    world.later(1.0)
    assert len(world.running) == 3


def test_on_a_fifo_queue_a_far_turn_is_held_or_parked_never_copied():
    fifo = replace(QUEUE, name="o.fifo", logical="o.fifo", fifo=True)
    world = World(fifo, slots=5, policy=v.TaskPolicy(rate_limit=0.01))
    first = world.delivery(body(task_id="a"), queue="o.fifo", group_id="g1")
    second = world.delivery(body(task_id="b"), queue="o.fifo", group_id="g2")

    world.arrive(first, second, queue="o.fifo")

    assert len(world.running) == 1
    assert not [each for each in world.settling if isinstance(each, v.Hop)]
