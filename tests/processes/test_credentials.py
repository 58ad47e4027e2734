"""Workers whose keys end every two seconds, are revoked, or cannot be had: real processes, a fake STS, the embedded SQS."""

from __future__ import annotations

import json
import os
import time
from itertools import count, pairwise

import pytest

from tests.support.sts import FakeSts
from tests.support.waiting import until

pytestmark = pytest.mark.processes
ROLE = "arn:aws:iam::000000000000:role/"
QUEUES = [f"orders-{number}" for number in range(5)]
SECONDS = float(os.environ.get("PYQS_CELERY_STS_SECONDS", "20"))
"""The table of troubles asks for 60: ``tox -e credentials``."""


@pytest.fixture
def sts():
    server = FakeSts(life=2.0)
    yield server
    server.close()


@pytest.fixture
def start(sqs, sts, start_worker):
    """Start a worker that serves QUEUES, each under the role of its name."""

    def start(*arguments, **variables):
        queues = {name: {"url": sqs.create(name), "sts_role_arn": f"{ROLE}{name}"} for name in QUEUES}
        options = {"wait_time_seconds": 1, "region": "us-east-1", "predefined_queues": queues}
        worker = start_worker(
            *("-Q", ",".join(QUEUES), *arguments),
            PROJ_CONF=json.dumps({"broker_transport_options": options}),
            **sts.environment,
            **variables,
        )
        worker.wait_ready()
        return worker

    return start


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 120)
def test_keys_of_two_seconds_cost_no_task_no_process_and_one_request_in_their_life(sqs, sts, start, send):
    with sts.ending_keys_at(sqs.expire_keys):
        worker = start("-c", "2")
        family = worker.family()
        begin, sent = time.time(), 0
        for number in count():
            if time.time() > begin + SECONDS:
                break
            for queue in QUEUES:
                send("note", queue, f"{queue}/{number}")
            sent += len(QUEUES)
            until(lambda: sum(sqs.left(queue) for queue in QUEUES) == 0, "the round is done", 30)
        ran = worker.diary.wait("run", sent)

    assert set(ran.values()) == {1}
    assert len(ran) == sent
    assert worker.family() == family
    assert worker.process.poll() is None
    assert "Traceback" not in worker.log
    for queue in QUEUES:
        issued = sts.of(queue)
        assert len(issued) <= SECONDS / sts.life + 2
        # one of them may have been renewed a little early, because SQS refused it on its way
        early = [second.at - first.at for first, second in pairwise(issued) if second.at < first.ends - 0.1]
        assert early == []
        assert len(issued) > SECONDS / sts.life / 2
    worker.stop()


def test_tasks_that_send_do_it_under_the_role_too(sqs, sts, start, send):
    with sts.ending_keys_at(sqs.expire_keys):
        worker = start("-c", "2")
        for number in range(4):
            for queue in QUEUES:
                send("fail_and_retry", queue, f"{queue}/{number}")

        ran = worker.diary.wait("run", 4 * len(QUEUES) * 3, 60)

    assert set(ran.values()) == {3}
    worker.stop()


def test_revoked_keys_are_replaced_while_a_task_runs_and_its_message_is_deleted_with_the_new(
    sqs, sts, start, send, tmp_path
):
    sts.life = 3600.0
    worker = start("-c", "1", GATE=str(tmp_path / "gate"))
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    send("pass_gate", QUEUES[0], 1, str(gate))
    worker.diary.wait("start", 1)

    sqs.expire_keys(*(each.key for each in sts.issued))
    with gate.open("w"):
        pass

    sqs.wait_empty(QUEUES[0])
    assert worker.diary.count("start") == {1: 1}
    until(lambda: len(sts.issued) == 10, "each role was asked for once more")
    worker.stop()


def test_an_outage_of_sts_is_told_and_survived(sqs, sts, start, send):
    worker = start("-c", "1")
    family = worker.family()
    sts.refusal = (500, "InternalFailure")
    with sts.ending_keys_at(sqs.expire_keys):
        worker.wait_logged("could not be assumed")
        send("note", QUEUES[3], "during")
        before = sts.asked["AssumeRole"]
        until(lambda: sts.asked["AssumeRole"] > before + 3, "it goes on asking", 60)

        sts.refusal = None
        worker.diary.wait("run", 1, 60)

        assert worker.family() == family
        lines = [line for line in worker.log.splitlines() if "could not be assumed" in line]
        assert len(lines) <= 3, lines  # receiving, deleting and finding queues are causes of their own
    worker.stop()


def test_a_web_identity_that_is_rotated_while_the_worker_runs(sqs, sts, start_worker, send, tmp_path):
    token = tmp_path / "token"
    token.write_text("first")
    sts.life, sts.tokens = 902.0, {"first"}
    sqs.create("q")
    worker = start_worker(
        *("-Q", "q", "-c", "1"),
        AWS_ACCESS_KEY_ID="",
        AWS_SECRET_ACCESS_KEY="",
        AWS_WEB_IDENTITY_TOKEN_FILE=str(token),
        AWS_ROLE_ARN=f"{ROLE}pod",
        **sts.environment,
    )
    worker.wait_ready()
    send("note", "q", 1)
    worker.diary.wait("run", 1)

    token.write_text("second")
    sts.tokens = {"second"}
    until(lambda: len(sts.issued) > 1, "the keys are renewed with the new token", 60)
    sqs.expire_keys("ASIA-pod-0")
    send("note", "q", 2)

    worker.diary.wait("run", 2)
    sqs.wait_empty("q")
    worker.stop()


def test_a_worker_that_may_not_assume_its_only_role_says_so_and_works_once_it_may(sqs, sts, start_worker, send):
    sts.refusal = (403, "AccessDenied")
    sqs.create("q")
    worker = start_worker(
        *("-Q", "q"),
        PROJ_CONF=json.dumps({"broker_transport_options": {"region": "us-east-1", "sts_role_arn": f"{ROLE}q"}}),
        **sts.environment,
    )
    worker.wait_logged("allow sts:AssumeRole on it")

    sts.refusal = None
    send("note", "q", 1)

    worker.diary.wait("run", 1)
    worker.stop()


def test_one_role_that_may_not_be_assumed_costs_one_queue(sqs, sts, start, send):
    sts.forbidden = {QUEUES[2]}
    sts.life = 3600.0
    worker = start("-c", "1")

    for queue in QUEUES:
        send("note", queue, queue)
    ran = worker.diary.wait("run", len(QUEUES) - 1)

    assert set(ran) == set(QUEUES) - {QUEUES[2]}
    assert f"role/{QUEUES[2]} could not be assumed" in worker.log
    assert "allow sts:AssumeRole on it" in worker.log
    worker.stop()
