"""How soon something is started again."""

from __future__ import annotations

from pyqs_celery.worker.respawns import Respawns


def delays_of_short_lives(respawns, lives, **facts):
    """The delay after each of so many lives of a tenth of a second."""
    found, now = [], 100.0
    for _ in range(lives):
        respawns.add(1, now - 0.1, now, **facts)
        found.append(respawns.next_due() - now)
        now = respawns.next_due()
        assert respawns.take_due(now) == [1]
    return found


def test_delays_double_while_it_lives_but_a_moment():
    assert delays_of_short_lives(Respawns(), 8) == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_the_longest_delay_is_the_callers():
    assert delays_of_short_lives(Respawns(), 4, most=2.0) == [0.5, 1, 2, 2]


def test_after_a_life_of_some_length_it_is_started_at_once_and_delays_begin_anew():
    respawns = Respawns()
    delays_of_short_lives(respawns, 5)

    respawns.add(1, 100.0, 200.0)

    assert respawns.take_due(200.0) == [1]
    assert delays_of_short_lives(respawns, 1) == [0.5]


def test_what_is_not_due_or_not_wanted_is_not_started():
    respawns = Respawns()
    for slot in range(4):
        respawns.add(slot, 99.9, 100.0)

    assert respawns.take_due(100.4) == []
    respawns.drop(0)
    respawns.keep_only(0, 2, 3)

    assert respawns.take_due(100.5) == [2, 3]
    assert respawns.next_due() is None
