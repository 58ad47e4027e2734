"""How many requests things cost: promises of docs/performance.rst that do not depend on the machine's speed.

Plays cases of ``benchmarks`` with this interpreter. Times are never looked at; the raw floor shows that the instrument counts
what it should.
"""

from __future__ import annotations

import pytest

from benchmarks.cases import draining, producing
from benchmarks.cases.quiet import IdleWatch
from benchmarks.cases.setting import Setting
from benchmarks.environments import ThisInterpreter
from benchmarks.registry import OURS, RAW, find
from benchmarks.trial import Trial
from tests.support.proc import processes_of_session
from tests.support.waiting import until

PATIENCE_SECONDS = 60.0

pytestmark = pytest.mark.processes


@pytest.fixture
def start(tmp_path):
    trials = []

    def begin(peer, queues=1):
        trials.append(Trial(find(peer), ThisInterpreter(), tmp_path, queues))
        return trials[-1]

    yield begin
    for trial in trials:
        trial.close()


def by_action(trial):
    return trial.endpoint.requests().by_action


@pytest.mark.parametrize(("peer", "most"), [(RAW, 202), (OURS, 205)])
def test_a_thousand_waiting_tasks_cost_a_worker_of_four_about_two_hundred_requests(start, peer, most):
    outcome = draining.drain(start(peer), Setting(tasks=1000, children=4, limit_seconds=PATIENCE_SECONDS))

    assert not outcome.cut_off
    assert outcome.measures["tasks"] == 1000, "each ran once"
    assert outcome.measures["redelivered"] == 0
    # the polls that were open when the tasks came were asked before the count began
    assert 195 <= outcome.measures["requests_per_1000"] <= most, outcome.measures


@pytest.mark.parametrize("peer", [RAW, OURS])
def test_a_thousand_at_once_go_out_in_tens(start, peer):
    trial = start(peer)

    outcome = producing.bulk(trial, Setting(tasks=1000))

    assert outcome.measures["sent"] == 1000
    assert trial.endpoint.left() == 1001, "the first send, and then all the others"
    assert outcome.measures["requests"] <= 102, outcome.measures


@pytest.mark.parametrize("peer", [RAW, OURS])
def test_each_delay_is_one_request_and_the_queue_is_looked_up_once(start, peer):
    trial = start(peer)

    outcome = producing.produce(trial, Setting(tasks=200, limit_seconds=PATIENCE_SECONDS))

    assert not outcome.cut_off
    asked = by_action(trial)
    assert asked.pop("GetQueueUrl", 0) <= 1
    assert asked == {"SendMessage": 201}, "the first send and two hundred more"


def test_an_idle_worker_holds_one_long_poll_for_each_queue_open_and_asks_nothing_else(start):
    trial = start(OURS, queues=3)
    watch = IdleWatch(trial, Setting(queues=3))
    watch.begin()

    def asked_and_waiting(number):
        return sum(by_action(trial).values()) >= number and trial.endpoint.open_polls() == 3

    trial.endpoint.ask("clock", advance=25)
    until(lambda: asked_and_waiting(3), "every poll has ended, and every queue is polled again")
    trial.endpoint.ask("clock", advance=5)
    until(lambda: asked_and_waiting(3), "after five seconds polls are open, the same ones if they are long")
    trial.endpoint.ask("clock", advance=25)
    until(lambda: asked_and_waiting(6), "every queue is polled once more")

    outcome = watch.finish()
    assert outcome.measures["open_polls"] == 3
    assert outcome.measures["actions"] == "ReceiveMessage 6", "one new poll a queue each time the old ones ended"


def test_nothing_is_left_behind_when_a_trial_is_closed_in_the_middle(start):
    trial = start(OURS)
    trial.endpoint.prepare(trial.queues)
    trial.start(2)
    family = trial.pids
    assert len(family) >= 4, "manager, consumer, two children"

    trial.close()

    assert not [pid for pid in family if processes_of_session(pid)]
