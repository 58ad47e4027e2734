"""What becomes of messages that do not simply succeed."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta, timezone

import pytest

from tests.support.waiting import until

pytestmark = pytest.mark.processes


def test_a_failing_task_comes_back_until_sqs_takes_it_away(sqs, start_worker, send):
    sqs.create_with_dead_letters("emails", 3, VisibilityTimeout=1)
    send("fail", "emails", "bad")

    worker = start_worker("-Q", "emails", "-c", "1")

    until(lambda: sqs.left("emails-dlq") == 1, "it is in the dead-letter queue")
    assert worker.diary.count("run")["bad"] == 3
    assert worker.stop() == 0


def test_without_a_redrive_policy_the_worker_moves_it_after_max_deliveries(sqs, start_worker, send):
    sqs.create("emails", VisibilityTimeout=1)
    send("fail", "emails", "bad")
    [body] = sqs.bodies("emails")

    worker = start_worker("-Q", "emails", "-c", "1", "worker_max_deliveries=2")

    until(lambda: sqs.state("emails-dlq").get("visible") == 1, "it was moved to a dead-letter queue made for it")
    sqs.wait_empty("emails")
    assert worker.diary.count("run")["bad"] == 2
    assert sqs.bodies("emails-dlq") == [body]
    [attributes] = sqs.attributes("emails-dlq")
    assert attributes["pyqs.reason"]["StringValue"] == "ValueError('no luck with bad')"
    assert attributes["pyqs.receive_count"]["StringValue"] == "2"
    assert sqs.client.queue_attributes(sqs.url("emails-dlq"), "emails-dlq")["MessageRetentionPeriod"] == "1209600"
    assert worker.stop() == 0


def test_where_moving_is_forbidden_the_message_stays(sqs, start_worker, send):
    sqs.create("emails", VisibilityTimeout=1)
    send("fail", "emails", "bad")

    worker = start_worker("-Q", "emails", "-c", "1", "worker_max_deliveries=1", "sqs_dead_letter_queue=false")

    worker.diary.wait("run", 2)
    assert worker.stop() == 0
    assert sqs.left("emails") == 1
    assert list(sqs.ask("state")) == ["emails"]


def test_where_sqs_denies_the_move_the_message_stays_and_the_log_says_what_to_do(sqs, start_worker, send):
    sqs.create("emails", VisibilityTimeout=1)
    send("fail", "emails", "bad")
    sqs.faults({"kind": "403", "action": "CreateQueue"})

    worker = start_worker("-Q", "emails", "-c", "1", "worker_max_deliveries=1")

    worker.wait_logged("allow sqs:GetQueueUrl, sqs:SendMessage and sqs:CreateQueue on emails-dlq")
    worker.wait_logged("will be seen again")
    assert worker.stop() == 0
    assert sqs.left("emails") == 1


def test_a_task_that_used_up_its_own_retries_is_moved_at_once(sqs, start_worker, send):
    sqs.create("emails", VisibilityTimeout=60)
    send("fail_and_retry", "emails", "bad")

    worker = start_worker("-Q", "emails", "-c", "1")

    until(lambda: sqs.state("emails-dlq").get("visible") == 1, "it was moved to the dead-letter queue")
    assert [e["retries"] for e in worker.diary.entries() if e["event"] == "run"] == [0, 1, 2]
    sqs.wait_empty("emails")
    assert worker.stop() == 0


def test_a_native_retry_is_the_same_message_until_sqs_takes_it_away(sqs, start_worker, send):
    sqs.create_with_dead_letters("emails", 3, VisibilityTimeout=30)
    send("retry_natively", "emails", "again", link_error=send.app.signature("proj.lament"))

    worker = start_worker("-Q", "emails", "-c", "1")

    until(lambda: sqs.left("emails-dlq") == 1, "it is in the dead-letter queue")
    # what SQS would not deliver once more has failed for good, and is told of as that
    worker.diary.wait("lament", 1)
    runs = [entry for entry in worker.diary.entries() if entry["event"] == "run"]
    assert [entry["retries"] for entry in runs] == [0, 1, 2]
    assert len({entry["message"] for entry in runs}) == 1
    assert sqs.requests().get("SendMessage", 0) == 1
    assert worker.stop() == 0


def test_sqs_delivery_celery_deletes_failures_as_celery_does(sqs, start_worker, send):
    sqs.create("emails", VisibilityTimeout=1)
    send("fail", "emails", "bad")

    worker = start_worker("-Q", "emails", "-c", "1", "sqs_delivery=celery")

    worker.diary.wait("run", 1)
    sqs.wait_empty("emails")
    assert worker.stop() == 0
    assert worker.diary.count("run")["bad"] == 1


def test_reject_with_requeue_comes_back_and_without_goes_to_the_dead_letters(sqs, start_worker, send):
    sqs.create("emails")
    send("reject", "emails", "back", True)
    send("reject", "emails", "away", False)

    worker = start_worker("-Q", "emails", "-c", "1")

    until(lambda: worker.diary.count("run")["back"] >= 2, "the requeued one runs again")
    until(lambda: sqs.state("emails-dlq").get("visible") == 1, "the other is a dead letter")
    assert worker.diary.count("run")["away"] == 1
    assert worker.stop() == 0


def test_an_unknown_task_stays_for_a_newer_worker(sqs, start_worker, send):
    sqs.create("emails")
    send("not_yet_written", "emails")
    send("note", "emails", 1)

    worker = start_worker("-Q", "emails", "-c", "1")

    worker.wait_logged("Received unregistered task of type 'proj.not_yet_written'")
    worker.diary.wait("run", 1)
    assert worker.stop() == 0
    assert sqs.left("emails") == 1
    assert "emails-dlq" not in sqs.ask("state")


@pytest.mark.parametrize(
    "body",
    [
        # how deep JSON may be differs between Python versions; it is moved all the same
        '{"properties": {}, "headers": {"task": "proj.note", "x": ' + "[" * 2500 + "]" * 2500 + '}, "body": "W10="}',
        "no message of anybody's",
        '{"hello": "world"}',
        "bm8gSlNPTg==",
        "[" * 50_000,
        '{"properties": {}, "headers": {}, "body": 7}',
    ],
    ids=["deep header", "text", "foreign json", "base64", "deep", "broken"],
)
def test_what_nobody_can_read_is_moved_at_once_and_stops_nobody(sqs, start_worker, send, body):
    sqs.create("emails")
    sqs.put("emails", body)
    send("note", "emails", "good")

    worker = start_worker("-Q", "emails", "-c", "1")

    until(lambda: sqs.state("emails-dlq").get("visible") == 1, "it was moved")
    assert sqs.bodies("emails-dlq") == [body]
    worker.diary.wait("run", 1)
    assert worker.log.count("Can't decode message body") == 1
    assert worker.stop() == 0


def test_a_pickle_is_not_opened_unless_the_application_accepts_it(sqs, start_worker, send):
    sqs.create("emails")
    send("note", "emails", 1, serializer="pickle")

    worker = start_worker("-Q", "emails", "-c", "1")
    until(lambda: sqs.state("emails-dlq").get("visible") == 1, "it was moved")
    assert "application/x-python-serialize" in worker.log
    assert worker.stop() == 0

    send("note", "emails", 2, serializer="pickle")
    open_minded = start_worker("-Q", "emails", "-c", "1", PROJ_CONF=json.dumps({"accept_content": ["json", "pickle"]}))
    open_minded.diary.wait("run", 1)
    assert open_minded.stop() == 0
    assert open_minded.diary.count("run") == {2: 1}


def test_an_eta_is_neither_early_nor_lost_and_holds_no_child(sqs, start_worker, send):
    sqs.create("emails")
    sqs.create("orders.fifo", ContentBasedDeduplication="true")
    due = datetime.now(timezone.utc) + timedelta(seconds=4)
    send("note", "emails", "standard", eta=due)
    send("note", "orders.fifo", "fifo", eta=due, MessageGroupId="g")
    worker = start_worker("-Q", "emails,orders.fifo", "-c", "1")
    send("note", "emails", "now")

    worker.diary.wait("run", 3)

    at = {entry["key"]: entry["at"] for entry in worker.diary.entries() if entry["event"] == "run"}
    assert at["now"] < due.timestamp()
    assert due.timestamp() <= at["standard"] < due.timestamp() + 2
    assert due.timestamp() <= at["fifo"] < due.timestamp() + 3
    assert worker.stop() == 0
    assert sqs.left("emails") == sqs.left("orders.fifo") == 0


def test_a_message_that_comes_before_its_eta_hops(sqs, start_worker, send):
    """A Celery producer sends no DelaySeconds: the message is there at once, its ETA far ahead."""
    sqs.create("emails")
    send("note", "emails", 1, eta=datetime.now(timezone.utc) + timedelta(seconds=6), DelaySeconds=0)
    until(lambda: sqs.state("emails")["visible"] == 1, "it is there at once")

    worker = start_worker("-Q", "emails", "-c", "1")

    until(lambda: sqs.state("emails")["delayed"] == 1, "it waits as a delayed copy")
    worker.diary.wait("run", 1)
    sqs.wait_empty("emails")
    assert worker.stop() == 0
    assert worker.diary.count("run") == {1: 1}


def test_an_expired_message_is_deleted_unrun(sqs, start_worker, send):
    sqs.create("emails")
    send("note", "emails", "late", expires=datetime.now(timezone.utc) - timedelta(seconds=1))
    send("note", "emails", "in time", expires=60)

    worker = start_worker("-Q", "emails", "-c", "1")

    sqs.wait_empty("emails")
    assert worker.diary.count("run") == {"in time": 1}
    worker.wait_logged("Discarding revoked task")
    assert worker.stop() == 0


def test_a_fifo_group_keeps_its_order_through_a_failure_and_blocks_no_other(sqs, start_worker, send):
    # given two groups, the first message of one of which fails for ever
    sqs.create_with_dead_letters("orders.fifo", 2, VisibilityTimeout=1, ContentBasedDeduplication="true")
    send("fail", "orders.fifo", "a0", MessageGroupId="a")
    for number in range(1, 4):
        send("note", "orders.fifo", f"a{number}", MessageGroupId="a")
    for number in range(4):
        send("note", "orders.fifo", f"b{number}", MessageGroupId="b")

    worker = start_worker("-Q", "orders.fifo", "-c", "4")
    worker.diary.wait("run", 9)

    # then each group ran in order, the failing one again before its followers
    order = [entry["key"] for entry in worker.diary.entries() if entry["event"] == "run"]
    assert [key for key in order if key[0] == "a"] == ["a0", "a0", "a1", "a2", "a3"]
    assert [key for key in order if key[0] == "b"] == ["b0", "b1", "b2", "b3"]
    assert order.index("b3") < order.index("a1")
    until(lambda: sqs.left("orders-dlq.fifo") == 1, "the failing one is in the FIFO dead-letter queue")
    assert worker.stop() == 0


def test_a_soft_time_limit_is_told_to_the_task_and_a_hard_one_ends_it(sqs, start_worker, send, tmp_path):
    never_opened = tmp_path / "gate"
    os.mkfifo(never_opened)
    sqs.create("emails", VisibilityTimeout=60)
    send("slow_but_told", "emails", "soft")
    send("pass_gate", "emails", "hard", str(never_opened), time_limit=1)

    worker = start_worker("-Q", "emails", "-c", "2")

    worker.diary.wait("told", 1)
    worker.wait_logged("Hard time limit (1s) exceeded for proj.pass_gate")
    worker.wait_logged("Soft time limit (0.2s) exceeded for proj.slow_but_told")
    until(lambda: sqs.left("emails") == 1, "the one that told is deleted, the other stays")
    assert worker.stop() == 0
    assert not worker.diary.count("end")


def test_early_acks_are_deleted_before_the_run_when_the_application_says_so(sqs, start_worker, send):
    sqs.create("emails", VisibilityTimeout=1)
    send("kill_own_process", "emails", "early")

    worker = start_worker("-Q", "emails", "-c", "1", "task_acks_late=false", "worker_ack_before_run=wait")

    worker.wait_logged("WorkerLostError")
    sqs.wait_empty("emails")
    assert worker.stop() == 0
    assert worker.diary.count("run") == {"early": 1}


def test_a_task_sees_sqs_facts(sqs, start_worker, send):
    sqs.create("orders.fifo", ContentBasedDeduplication="true")
    send("report_request", "orders.fifo", 1, MessageGroupId="customer-7")

    worker = start_worker("-Q", "orders.fifo", "-c", "1")
    worker.diary.wait("run", 1)

    [entry] = [entry for entry in worker.diary.entries() if entry["event"] == "run"]
    assert (entry["queue"], entry["receive_count"], entry["group"]) == ("orders.fifo", 1, "customer-7")
    assert worker.stop() == 0
