"""Calls in threads: the calls of one queue never keep another queue's waiting, and none is waited for for ever."""

from __future__ import annotations

import threading
import time

import pytest

from pyqs_celery.worker.io import THREADS_MOST, IoThreads
from tests.support.waiting import until


class Loop:
    """Takes news as the worker's loop would."""

    def __init__(self, each=2):
        self.lock = threading.Lock()
        self.answers = []
        self.gate = threading.Event()
        self.began = []
        self.threads = IoThreads("test", each, lambda news: news(1000.0))

    def told(self, answer, now):
        with self.lock:
            self.answers.append(answer)

    def ask(self, key, answer, *, blocked=False, hung=None):
        def call():
            with self.lock:
                self.began.append(answer)
            if blocked:
                self.gate.wait(30)
            return answer

        self.threads.ask(call, self.told, key=key, hung=hung)

    def wait_answers(self, number):
        until(lambda: len(self.answers) >= number, f"{number} answers")


@pytest.fixture
def loop():
    made = Loop()
    yield made
    made.gate.set()
    made.threads.close()


def test_answers_come_back_in_the_order_of_one_key_when_it_has_one_thread():
    loop = Loop(each=1)
    for number in range(50):
        loop.ask("a", number)
    loop.wait_answers(50)
    assert loop.answers == list(range(50))
    loop.threads.close()


def test_a_key_whose_calls_do_not_return_keeps_no_other_waiting(loop):
    for number in range(10):
        loop.ask("sick", f"sick {number}", blocked=True)
    for key in ("a", "b", "c"):
        loop.ask(key, key)
    loop.wait_answers(3)
    assert sorted(loop.answers) == ["a", "b", "c"]
    assert [each for each in loop.began if each.startswith("sick")] == ["sick 0", "sick 1"]
    loop.gate.set()
    loop.wait_answers(13)


def test_many_sick_keys_leave_threads_for_the_well_ones(loop):
    for key in range(THREADS_MOST // 2):
        for _ in range(4):
            loop.ask(key, "sick", blocked=True)
    loop.ask("well", "well")
    loop.wait_answers(1)
    assert loop.answers == ["well"]


def test_threads_that_have_nothing_to_do_end_but_for_a_few(loop):
    before = threading.active_count()
    for key in range(20):
        loop.ask(key, key, blocked=True)
    until(lambda: len(loop.began) == 20, "all have begun")
    loop.gate.set()
    loop.wait_answers(20)
    until(lambda: threading.active_count() <= before + 2, "two are left")


def test_a_call_that_hangs_is_given_up_after_a_minute_and_its_place_is_free(loop):
    loop.ask("a", "hangs", blocked=True, hung=lambda: "no answer")
    loop.ask("a", "hangs too", blocked=True, hung=lambda: "no answer")
    loop.ask("a", "waits")
    until(lambda: len(loop.began) == 2, "two have begun")
    assert loop.threads.look(time.monotonic() + 55) == 0
    assert loop.threads.look(time.monotonic() + 65) == 2
    loop.wait_answers(3)
    assert sorted(loop.answers) == ["no answer", "no answer", "waits"]
    # what they answer in the end is not told
    loop.gate.set()
    loop.ask("a", "later")
    loop.wait_answers(4)
    assert loop.answers[-1] == "later"


def test_a_call_without_a_substitute_is_waited_for(loop):
    loop.ask("a", "slow", blocked=True)
    until(lambda: loop.began, "it has begun")
    assert loop.threads.look(time.monotonic() + 1000) == 0
    loop.gate.set()
    loop.wait_answers(1)


def test_a_close_lets_what_has_begun_end_and_drops_the_rest(loop):
    for number in range(5):
        loop.ask("a", number, blocked=True)
    until(lambda: len(loop.began) == 2, "two have begun")
    loop.threads.close()
    loop.gate.set()
    loop.wait_answers(2)
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("test-")], "no thread is left")
    assert sorted(loop.answers) == [0, 1]
