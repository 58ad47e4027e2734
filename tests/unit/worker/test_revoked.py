"""The watch over running tasks that somebody wants ended."""

from __future__ import annotations

from collections import deque

import pytest

from pyqs_celery.revocation import Mark
from pyqs_celery.worker.revoked import LOOK_EVERY_SECONDS, RevokedWatch

TERM = Mark(True, "SIGTERM", 0.0)


class Threads:
    """Calls that are made, and answered, when the test says so."""

    def __init__(self):
        self.asked = deque()

    def ask(self, call, then):
        self.asked.append((call, then))

    def answer(self, now):
        call, then = self.asked.popleft()
        then(call(), now)


class World:
    def __init__(self, can_end=True):
        self.threads = Threads()
        self.marks = {}
        self.read = []
        self.ended = []
        self.running = ["a", "b"]
        self.watch = RevokedWatch(
            self.look_up, self.threads, lambda signums, now: self.ended.append(signums), can_end=can_end
        )

    def look_up(self, task_ids):
        self.read.append(task_ids)
        return {task_id: self.marks[task_id] for task_id in task_ids if task_id in self.marks}

    def look(self, now):
        self.watch.look(lambda: self.running, now)


@pytest.fixture
def world():
    return World()


def test_a_task_with_a_mark_is_ended_by_its_signal(world):
    world.marks = {"b": TERM}
    world.look(100.0)

    world.threads.answer(100.5)

    assert world.read == [["a", "b"]]
    assert world.ended == [{"b": 15}]


def test_it_looks_every_five_seconds_and_never_twice_at_once(world):
    world.look(100.0)
    world.look(100.0 + 2 * LOOK_EVERY_SECONDS)
    assert len(world.threads.asked) == 1
    world.threads.answer(120.0)
    world.look(120.0)
    world.threads.answer(120.1)
    world.look(124.9)
    assert not world.threads.asked

    world.look(125.0)

    assert len(world.threads.asked) == 1
    assert world.ended == []


def test_an_idle_worker_neither_looks_nor_wakes(world):
    world.running = []
    world.look(100.0)

    assert not world.threads.asked
    assert world.watch.next_due(busy=False) is None
    assert world.watch.next_due(busy=True) == 105.0


def test_nobody_need_wake_while_a_look_is_under_way(world):
    world.look(100.0)

    assert world.watch.next_due(busy=True) is None


def test_a_pool_that_cannot_end_tasks_says_so_once(caplog):
    world = World(can_end=False)
    world.marks = {"a": TERM}

    for now in (100.0, 105.0):
        world.look(now)
        world.threads.answer(now)

    assert world.ended == []
    assert [message.partition(",")[0] for message in caplog.messages] == ["Task a is to be terminated"]
