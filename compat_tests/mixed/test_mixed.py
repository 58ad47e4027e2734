"""Real Celery and pyqs-celery on the same queues and the same store of results, behaviour by behaviour.

What is expected is what Celery gives alone: ``python -m compat_tests.mixed.baseline`` holds the table against it.
"""

from __future__ import annotations

import json

import pytest
import redis

from compat_tests.mixed.asking import differences
from compat_tests.mixed.fleets import FLEETS
from compat_tests.mixed.table import OLDEST, names

pytestmark = [pytest.mark.timeout(400), pytest.mark.slow]


def test_behaviour(case, performance):
    entry = performance.of(case.fleet)[case.run.name].sent[case.behaviour]

    assert "broken" not in entry["answer"], entry["answer"]["broken"]
    assert entry["answer"] in case.accepted(), json.dumps(entry["answer"], ensure_ascii=False)


def test_read_from_the_other_side(case, performance):
    answers = performance.of(case.fleet)[case.run.name]
    if answers.sent[case.behaviour]["result"] is None:
        pytest.fail("it could not be sent")
    sender, other = (reading[case.behaviour] for reading in answers.read.values())

    assert "broken" not in sender, sender["broken"]
    assert "broken" not in other, other["broken"]
    assert differences(sender, other) == [], f"read by {' and by '.join(answers.read)}"


def test_who_ran_what(fleet_run, performance):
    """A run is what its name says: one side alone, or members and steps on both."""
    fleet, run = fleet_run
    answers = performance.of(fleet)[run.name]

    queues = run.queues or (fleet.default_queue,)
    may_run = {role for role, polled in fleet.workers.items() if set(polled) & set(queues)}
    assert {role for roles in answers.ran.values() for role in roles} == may_run
    if len(run.queues) > 1:
        for name in ("chain", "group", "chord"):
            assert set(answers.ran[name]) == may_run, name


def test_nothing_is_left(fleet, performance):
    performance.of(fleet)

    assert performance.machine.left_behind == [], "processes that had to be killed"
    assert performance.machine.left_on_queues.get(fleet.name) == {}


def test_packed_results_are_packed(performance, peer_version):
    if peer_version < OLDEST:
        pytest.skip("the mixed fleets are for Celery 5.4 and later")
    performance.of(FLEETS["packed"])

    with redis.Redis.from_url(performance.servers.redis.url(2)) as client:
        keys = client.keys("*")
        stored = [client.get(key) for key in keys if b"celery-task-meta-" in key]
    assert keys
    assert [key for key in keys if not key.startswith(b"team_")] == []
    if peer_version >= (5, 7):
        assert [
            value for value in stored if not value.startswith(b"\x00celery-compressed\x00application/x-gzip\x00")
        ] == []


def test_enough_is_asked(peer_version):
    assert len(names(version=max(peer_version, OLDEST))) >= 130
    for store in ("dynamodb", "sqlite", "s3"):
        assert len(names(store=store, version=max(peer_version, OLDEST))) >= 35
