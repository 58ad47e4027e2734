"""The printed IAM policies are enough, and nothing in them is too much: against an SQS that denies everything else."""

from __future__ import annotations

import json
import os
from collections import Counter
from contextlib import suppress

import pytest

from pyqs_celery import Celery
from pyqs_celery.beat.lock import BeatLock
from pyqs_celery.broker.config import broker_config
from pyqs_celery.broker.purging import purge
from pyqs_celery.exceptions import AccessDenied, BrokerError
from tests.support.iam import enforced, permissions, printed_policy, without
from tests.support.waiting import until

pytestmark = pytest.mark.processes
KEY = "AKIAWORKER"
WORKER = ("--iam", "worker", "-Q", "emails")
EXACT = [
    ("sqs:ReceiveMessage", "emails"),
    ("sqs:DeleteMessage", "emails"),
    ("sqs:ChangeMessageVisibility", "emails"),
    ("sqs:GetQueueUrl", "emails"),
    ("sqs:GetQueueUrl", "emails-dlq"),
    ("sqs:SendMessage", "emails"),
    ("sqs:SendMessage", "emails-dlq"),
    ("sqs:GetQueueAttributes", "emails"),
]


@pytest.fixture
def start(sqs, start_worker):
    """Start a worker that may do what a policy says and nothing else."""

    def start(policy, *arguments, **variables):
        sqs.policies(**{KEY: enforced(policy)})
        return start_worker(*arguments, "-c", "1", AWS_ACCESS_KEY_ID=KEY, **variables)

    return start


def denials(sqs):
    """What was refused and how often, as ``DeleteMessage emails``."""
    found = Counter()
    for cause, number in sqs.stats().items():
        if cause.startswith("refused AccessDenied "):
            action, _, queue = cause.removeprefix("refused AccessDenied ").partition(" ")
            found[f"{action.removesuffix('Batch')} {queue}"] += number
    return found


def live(worker, sqs, send, queue="emails"):
    """Everything a worker does in its life: a task succeeds, one retries until it is dead, one fails and is released."""
    send("note", queue, "good")
    send("fail_and_retry", queue, "dead")
    until(lambda: sqs.state(f"{queue}-dlq").get("visible") == 1, "the dead message was moved", 40)
    send("fail", queue, "bad")
    until(lambda: worker.diary.count("run")["bad"] > 1, "the failed message was released and came back", 40)
    assert worker.diary.count("run")["good"] == 1
    assert worker.diary.count("run")["dead"] == 3


def test_a_worker_lives_by_its_policy_and_neither_lists_nor_creates(sqs, start, send):
    sqs.create("emails", VisibilityTimeout=1)
    sqs.create("emails-dlq")
    worker = start(printed_policy(*WORKER), "-Q", "emails")
    worker.wait_ready()

    live(worker, sqs, send)

    assert denials(sqs) == {}
    requests = sqs.requests()
    assert requests.get("ListQueues", 0) == 0
    assert requests["CreateQueue"] == 2  # the test's own
    worker.stop()


def test_what_the_policy_of_a_worker_holds():
    policy = printed_policy(*WORKER)
    assert sorted((action, arn.rsplit(":", 1)[-1]) for action, arn in permissions(policy)) == sorted(EXACT)


@pytest.mark.parametrize(("action", "name"), EXACT[:-1], ids=lambda text: text)
def test_nothing_in_it_can_be_left_out(sqs, start, send, action, name):
    sqs.create("emails", VisibilityTimeout=1)
    sqs.create("emails-dlq")
    worker = start(without(printed_policy(*WORKER), action, f"arn:aws:sqs:*:*:{name}"), "-Q", "emails")
    worker.wait_logged("emails")

    for task in ("note", "fail", "fail_and_retry"):
        send(task, "emails", task)

    worker.wait_logged(action, 60)
    assert set(denials(sqs)) == {f"{action.removeprefix('sqs:')} {name}"}
    assert worker.process.poll() is None


def test_the_optional_permission_is_missed_in_one_sentence_and_nothing_else(sqs, start, send):
    sqs.create("emails", VisibilityTimeout=1)
    sqs.create("emails-dlq")
    worker = start(
        without(printed_policy(*WORKER), "sqs:GetQueueAttributes", "arn:aws:sqs:*:*:emails"),
        *("-Q", "emails"),
        PROJ_CONF=json.dumps({"task_default_queue": "emails", "broker_transport_options": {"wait_time_seconds": 1}}),
    )
    worker.wait_ready()

    send("note", "emails", "good")
    send("fail_and_retry", "emails", "dead")
    worker.diary.wait("run", 4)
    until(lambda: sqs.state("emails-dlq").get("visible") == 1, "the dead message was moved", 40)

    assert worker.log.count("sqs:GetQueueAttributes is not allowed") == 1
    assert denials(sqs) == {"GetQueueAttributes emails": 1}
    worker.stop()


def test_a_worker_of_predefined_queues_needs_three_actions_on_its_queue(sqs, start, send):
    url = sqs.create("emails", VisibilityTimeout=1)
    soon = {"backoff_policy": {1: 1}, "backoff_tasks": ["proj.fail"]}
    options = {"wait_time_seconds": 1, "predefined_queues": {"mails": {"url": url} | soon}}
    conf = json.dumps({"broker_transport_options": options, "sqs_dead_letter_queue": False})
    policy = printed_policy("--iam", "worker", "-Q", "mails", PROJ_CONF=conf)
    assert sorted({action for action, _ in permissions(policy)}) == [
        "sqs:ChangeMessageVisibility",
        "sqs:DeleteMessage",
        "sqs:GetQueueAttributes",
        "sqs:ReceiveMessage",
        "sqs:SendMessage",
    ]
    statements = [each for each in policy["Statement"] if each["Sid"] == "Receive"]
    worker = start({**policy, "Statement": statements}, "-Q", "mails", PROJ_CONF=conf)
    worker.wait_ready()

    send("note", "emails", "good")
    send("fail", "emails", "bad")
    until(lambda: worker.diary.count("run")["bad"] > 1, "the failed message was released and came back", 40)

    assert worker.diary.count("run")["good"] == 1
    assert denials(sqs) == {"GetQueueAttributes emails": 1}
    worker.stop()


def test_retries_of_predefined_queues_need_one_more(sqs, start, send):
    urls = {name: sqs.create(name, VisibilityTimeout=1) for name in ("emails", "emails-dlq")}
    options = {"wait_time_seconds": 1, "predefined_queues": {name: {"url": url} for name, url in urls.items()}}
    conf = json.dumps({"broker_transport_options": options})
    policy = printed_policy(*WORKER, PROJ_CONF=conf)
    assert "sqs:GetQueueUrl" not in {action for action, _ in permissions(policy)}
    worker = start(policy, "-Q", "emails", PROJ_CONF=conf)
    worker.wait_ready()

    live(worker, sqs, send)

    assert denials(sqs) == {}
    worker.stop()


def test_a_worker_of_patterns_lists_and_nothing_more(sqs, start, send):
    for name in ("shop-mails", "shop-bills"):
        sqs.create(name, VisibilityTimeout=1)
        sqs.create(f"{name}-dlq")
    sqs.create("other")
    policy = printed_policy("--iam", "worker", "-Q", "shop.*")
    worker = start(policy, "-Q", "shop.*")
    worker.wait_ready()

    live(worker, sqs, send, "shop-bills")

    assert denials(sqs) == {}
    assert sqs.requests()["ListQueues"] >= 1
    worker.stop()
    # and none of its actions is idle
    asked = {action.removesuffix("Batch") for action in sqs.requests()}
    assert {action.removeprefix("sqs:") for action, _ in permissions(policy)} <= asked


def test_dead_letter_queues_are_created_if_that_is_allowed(sqs, start, send):
    sqs.create("emails", VisibilityTimeout=1)
    policy = printed_policy(*WORKER, "--create-queues")
    extra = set(permissions(policy)) - set(permissions(printed_policy(*WORKER)))
    assert extra == {("sqs:CreateQueue", f"arn:aws:sqs:*:*:{name}") for name in ("emails", "emails-dlq")}
    worker = start(policy, "-Q", "emails")
    worker.wait_ready()

    live(worker, sqs, send)

    assert denials(sqs) == {}
    worker.stop()


def test_a_queue_that_may_not_be_purged_is_not_passed_over(sqs):
    sqs.create("emails")
    sqs.policies(**{KEY: [{"actions": ["PurgeQueue", "GetQueueAttributes"]}]})

    with pytest.raises(AccessDenied, match="need sqs:GetQueueUrl"):
        call_purge(sqs)


def test_a_missing_dead_letter_queue_that_may_not_be_created_loses_nothing(sqs, start, send):
    sqs.create("emails", VisibilityTimeout=1)
    worker = start(printed_policy(*WORKER), "-Q", "emails")
    worker.wait_ready()

    send("fail_and_retry", "emails", "dead")

    worker.wait_logged("allow sqs:GetQueueUrl, sqs:SendMessage and sqs:CreateQueue on emails-dlq", 60)
    until(lambda: sqs.left("emails") == 1, "the message stays")
    worker.stop()


# -- those who only call -----------------------------------------------------------------------------


def producer(sqs, **conf):
    app = Celery("producer", broker=f"sqs://{KEY}:s@", set_as_current=False)
    app.conf.update(conf)
    app.conf.broker_transport_options = {"region": "us-east-1", "endpoint_url": sqs.endpoint}
    return app


def config(sqs):
    return broker_config(f"sqs://{KEY}:s@", {"region": "us-east-1", "endpoint_url": sqs.endpoint}, os.environ)


def call_purge(sqs):
    return purge(config(sqs), ["emails"])


def call_producer(sqs):
    app = producer(sqs)
    try:
        for _ in range(3):
            app.send_task("proj.note", (1,), queue="emails")
        with app.publisher().batch():
            app.send_task("proj.note", (1,), queue="emails")
    finally:
        app.close()


def call_beat(sqs):
    lock = BeatLock(config(sqs), "lock.fifo", 10)
    until(lambda: lock.hold() or denials(sqs), "the lock is held", 20)
    if not lock.held:
        raise AccessDenied("the lock is not held")
    lock.release()
    call_producer(sqs)


CALLERS = {
    "producer": (call_producer, ()),
    "creator": (call_producer, ("--create-queues",)),
    "purge": (call_purge, ()),
    "beat": (call_beat, ()),
}


@pytest.mark.parametrize("name", CALLERS)
def test_those_who_only_call_need_all_of_their_policy_and_no_more(sqs, name):
    call, more = CALLERS[name]
    role = "producer" if name == "creator" else name
    conf = json.dumps({"beat_lock_queue": "lock.fifo"})
    policy = printed_policy("--iam", role, "-Q", "emails", *more, PROJ_CONF=conf)

    def prepare(allowed):
        sqs.wipe()
        if name != "creator":
            sqs.create("emails")
        if name == "beat":
            sqs.create("lock.fifo")
        sqs.policies(**{KEY: enforced(allowed)})

    prepare(policy)
    call(sqs)
    assert denials(sqs) == {}
    assert sqs.requests().get("ListQueues", 0) == 0

    for action, resource in permissions(policy):
        if name == "beat" and action == "sqs:DeleteMessage":
            continue  # once a day, when the lock's message is replaced
        prepare(without(policy, action, resource))
        with suppress(BrokerError):
            call(sqs)
        assert set(denials(sqs)) == {f"{action.removeprefix('sqs:')} {resource.rsplit(':', 1)[-1]}"}
