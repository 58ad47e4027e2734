"""Leaving when idle, and ECS's protection while busy: with threads that answer when told to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyqs_celery.worker.attendants import EcsProtection, IdleExit


class Threads:
    """Makes calls when told to."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], Any], Callable[[Any, float], None]]] = []

    def ask(self, call: Callable[[], Any], then: Callable[[Any, float], None]) -> None:
        self.waiting.append((call, then))

    def answer(self, now: float) -> None:
        call, then = self.waiting.pop(0)
        then(call(), now)

    def close(self) -> None:
        pass


class Ecs:
    def __init__(self, lease: float = 60) -> None:
        self.busy = False
        self.calls: list[int | None] = []
        self.error: str | None = None
        self.threads = Threads()
        self.protection = EcsProtection(lambda: self.busy, lease, self.threads, self.put)  # type: ignore[arg-type]

    def put(self, minutes: int | None) -> str | None:
        self.calls.append(minutes)
        return self.error

    def look(self, now: float) -> list[int | None]:
        self.protection.look(now)
        while self.threads.waiting:
            self.threads.answer(now)
        return self.calls


def test_nothing_is_asked_while_idle():
    ecs = Ecs()

    assert ecs.look(0) == ecs.look(1000) == []
    assert ecs.protection.next_due() is None


def test_protected_with_the_first_task_and_cleared_after_the_last():
    ecs = Ecs()
    ecs.busy = True
    assert ecs.look(10) == [2]
    assert ecs.look(20) == [2]

    ecs.busy = False
    assert ecs.look(30) == [2]
    assert ecs.protection.next_due() <= 35
    assert ecs.look(ecs.protection.next_due()) == [2, None]
    assert ecs.protection.next_due() is None


def test_short_tasks_one_after_the_other_do_not_turn_it_on_and_off():
    ecs = Ecs()
    for now in range(100):
        ecs.busy = now % 2 == 0
        ecs.look(now)

    assert ecs.calls.count(None) == 0


def test_it_is_renewed_at_half_of_its_time():
    ecs = Ecs(lease=90)
    ecs.busy = True
    ecs.look(0)

    assert ecs.protection.next_due() == 90
    assert ecs.look(89) == [3]
    assert ecs.look(90) == [3, 3]


def test_a_failing_agent_is_asked_again_ever_later_and_does_no_harm():
    ecs = Ecs()
    ecs.busy, ecs.error = True, "no agent"
    now, pauses = 0.0, []
    for _ in range(8):
        ecs.look(now)
        due = ecs.protection.next_due()
        pauses.append(due - now)
        now = due
    assert all(0 < pause <= 20 for pause in pauses)
    assert max(pauses) > 1

    ecs.error = None
    assert ecs.look(now)[-1] == 2
    assert ecs.protection.next_due() == now + 60


def test_one_call_at_a_time():
    ecs = Ecs()
    ecs.busy = True
    ecs.protection.look(0)
    ecs.protection.look(1)

    assert len(ecs.threads.waiting) == 1
    assert ecs.protection.next_due() is None


def test_it_is_cleared_when_the_worker_ends():
    ecs = Ecs()
    ecs.busy = True
    ecs.look(0)
    ecs.protection.close()

    assert ecs.calls == [2, None]


def test_a_worker_leaves_once_after_its_idle_time():
    busy, asked = [True], []
    idle = IdleExit(30, lambda: busy[0], asked.append)
    idle.look(0)
    assert idle.next_due() is None

    busy[0] = False
    idle.look(10)
    assert idle.next_due() == 40
    busy[0] = True
    idle.look(39)
    busy[0] = False
    idle.look(50)
    idle.look(79)
    assert asked == []
    idle.look(80)
    idle.look(90)
    assert len(asked) == 1
