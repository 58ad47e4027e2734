"""Claims: who may run a task, who must wait, and what is done already."""

from __future__ import annotations

import json
import multiprocessing
import uuid
from typing import Any

import pytest

from pyqs_celery import Celery, dedupe
from pyqs_celery.dedupe import Claim, Deduplication
from pyqs_celery.exceptions import ImproperlyConfigured
from pyqs_celery.outcome import Outcome
from pyqs_celery.wire.message import TaskMessage

SUCCESS = Outcome("succeeded", "t", "i")


@pytest.fixture
def app():
    made = Celery("once", broker=f"memory://{uuid.uuid4().hex}", backend="cache+memory://", set_as_current=False)
    yield made
    made.close()


class Time:
    """A clock that is turned by hand."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Store:
    """A store of one process, or one that is away."""

    def __init__(self, clock: Time) -> None:
        self.clock = clock
        self.values: dict[str, tuple[str, float]] = {}
        self.away = False
        self.asked = 0
        self.before_add: Any = None

    @staticmethod
    def key_t(text: str) -> str:
        return text

    def get(self, key: str) -> str | None:
        self.asked += 1
        if self.away:
            raise ConnectionError("no route to the store")
        value, until = self.values.get(key, (None, 0.0))
        return value if until > self.clock() else None

    def add(self, key: str, value: str, expires: float) -> bool:
        if self.before_add is not None:
            self.before_add, act = None, self.before_add
            act()
        if self.get(key) is not None:
            return False
        self.values[key] = (value, self.clock() + expires)
        return True

    def delete(self, key: str) -> None:
        self.values.pop(key, None)


@pytest.fixture
def clock():
    return Time()


@pytest.fixture
def store(clock):
    return Store(clock)


@pytest.fixture
def make(store, clock):
    """Each is another worker's."""
    return lambda mode="open", **facts: Deduplication(
        lambda: store, mode=mode, remember_seconds=1000, clock=clock, **facts
    )


def message(retries=0, **facts):
    return TaskMessage(2, "t", "i", retries=retries, **facts)


def test_the_second_delivery_comes_back_when_the_first_has_ended(make):
    first, second = make(claim_seconds=50), make()
    claim = first.claim(message(), None)

    answer = second.claim(message(), None)

    assert isinstance(claim, Claim)
    assert (answer.kind, answer.native_delay) == ("retried", 50)
    first.end(claim, SUCCESS)
    assert second.claim(message(), None).kind == "succeeded"


def test_what_is_done_is_remembered_for_as_long_as_was_asked(make, clock):
    once = make()
    once.end(once.claim(message(), None), SUCCESS)

    assert once.claim(message(), None).kind == "succeeded"
    clock.now += 1001
    assert isinstance(once.claim(message(), None), Claim)


@pytest.mark.parametrize(
    "outcome",
    [Outcome("failed"), Outcome("rejected", requeue=True), Outcome("unknown"), Outcome("retried", native_delay=1)],
)
def test_what_has_not_succeeded_may_run_again_at_once(make, outcome):
    once = make()
    once.end(once.claim(message(), None), outcome)

    assert isinstance(once.claim(message(), None), Claim)


def test_a_retry_is_not_the_run_before_it(make):
    once = make()
    once.end(once.claim(message(), None), Outcome("retried"))

    assert once.claim(message(), None).kind == "succeeded"
    assert isinstance(once.claim(message(retries=1), None), Claim)


@pytest.mark.parametrize(("limit", "seconds"), [(None, 3600), (10, 70)])
def test_a_claim_outlasts_the_hard_time_limit(make, limit, seconds):
    once = make()
    once.claim(message(), limit)

    assert make().claim(message(), limit).native_delay == seconds


def test_a_claim_that_has_ended_is_taken(make, clock):
    make(claim_seconds=50).claim(message(), None)
    clock.now += 51

    assert isinstance(make().claim(message(), None), Claim)


def dead_pid() -> int:
    process = multiprocessing.get_context("spawn").Process(target=print)
    process.start()
    process.join()
    return int(process.pid or 0)


def test_the_claim_of_a_process_that_has_died_here_is_taken_at_once_by_one(make, store, clock):
    by = [dedupe._machine(), dead_pid()]
    store.add("pyqs-claim-i:0", json.dumps({"by": by, "until": clock.now + 500, "token": "x"}), 500)

    answers = [make().claim(message(), None) for _ in range(3)]

    assert [isinstance(answer, Claim) for answer in answers] == [True, False, False]


def test_the_claim_of_another_machine_is_respected(make, store, clock):
    by = ["elsewhere", dead_pid()]
    store.add("pyqs-claim-i:0", json.dumps({"by": by, "until": clock.now + 500, "token": "x"}), 500)

    assert make().claim(message(), None).native_delay == 500


def test_who_comes_between_two_questions_finds_it_done(make, store):
    first, second = make(), make()
    claim = first.claim(message(), None)
    store.before_add = lambda: first.end(claim, SUCCESS)

    assert second.claim(message(), None).kind == "succeeded"
    assert not [key for key in store.values if "claim" in key]


def test_a_late_end_leaves_the_claim_of_another(make, clock):
    first, second = make(claim_seconds=50), make()
    slow = first.claim(message(), None)
    clock.now += 51
    second.claim(message(), None)

    first.end(slow, Outcome("failed"))

    assert not isinstance(make().claim(message(), None), Claim)


def test_open_runs_while_the_store_is_away_and_asks_it_seldom(make, store, clock):
    once, store.away = make("open"), True

    claims = [once.claim(message(), None) for _ in range(100)]

    assert all(isinstance(claim, Claim) for claim in claims)
    assert store.asked == 1
    once.end(claims[0], SUCCESS)
    store.away = False
    clock.now += 11
    once.end(once.claim(message(), None), SUCCESS)
    assert once.claim(message(), None).kind == "succeeded"


def test_closed_waits_while_the_store_is_away(make, store):
    once, store.away = make("closed"), True

    answer = once.claim(message(), None)

    assert (answer.kind, answer.native_delay) == ("retried", 10)
    store.away = False
    assert isinstance(once.claim(message(), None), Claim)


@pytest.mark.parametrize("mode", ["open", "closed"])
def test_a_store_that_goes_away_during_the_run_changes_nothing_of_its_end(make, store, mode):
    once = make(mode)
    claim = once.claim(message(), None)
    store.away = True

    once.end(claim, SUCCESS)


def test_a_claim_that_nobody_can_read_ends_by_itself(make, store, clock):
    store.add("pyqs-claim-i:0", "no json", 50)

    assert make().claim(message(), None).kind == "retried"
    clock.now += 51
    assert isinstance(make().claim(message(), None), Claim)


def test_it_is_off_unless_asked_for(app):
    assert dedupe.deduplication(app) is None


def test_a_mode_or_store_that_cannot_be_is_refused(app):
    app.conf.sqs_deduplicate = "open"
    dedupe.check(app)
    app.conf.sqs_deduplicate = True
    with pytest.raises(ImproperlyConfigured, match="'open'"):
        dedupe.check(app)
    other = Celery("none", broker="memory://", set_as_current=False)
    other.conf.sqs_deduplicate = "open"
    with pytest.raises(ImproperlyConfigured, match="DisabledBackend"):
        dedupe.check(other)
    other.close()
