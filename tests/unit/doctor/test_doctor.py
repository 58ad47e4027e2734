"""What the doctor finds in the sample project, each finding at its place, and nothing in a clean one."""

from __future__ import annotations

import json

import pytest

IN_FILES = {
    ("celery-import", "shop/celery.py:1"),
    ("celery-import", "shop/mail/inside.py:2"),
    ("celery-import", "shop/orders/typing_only.py:6"),
    ("celery-import", "shop/orders/errors.py:2"),
    ("celery-import", "shop/reports/dynamic.py:4"),
    ("celery-import", "shop/legacy/star.py:1"),
    ("celery-internal", "shop/ops/worker_internals.py:1"),
    ("celery-internal", "shop/ops/worker_internals.py:2"),
    ("celery-internal", "shop/legacy/old.py:1"),
    ("celery-import", "shop/reports/canvas.py:1"),
    ("celery-path", "shop/settings.py:12"),
    ("celery-path", "shop/ops/logging.py:8"),
    ("sqs-transport", "shop/mail/transport.py:1"),
    ("remote-control", "shop/orders/control.py:9"),
    ("unreadable", "shop/legacy/broken.py"),
    ("celery-command", "Procfile:2"),
    ("celery-command", "Procfile:3"),
    ("celery-command", "docker-compose.yml:4"),
    ("celery-command", "deploy/helm/templates/worker.yaml:6"),
    ("celery-command", "deploy/systemd/shop.service:2"),
    ("unknown-flag", "Procfile:2"),
    ("remote-control", "docker-compose.yml:6"),
    ("events", "docker-compose.yml:8"),
    ("events", "docker-compose.yml:4"),
    ("celery-import", "shop/build/feed.py:1"),
    ("celery-internal", "shop/reports/both.py:1"),
    ("celery-internal", "shop/reports/both.py:2"),
    ("celery-internal", "shop/reports/wrapped.py:6"),
    ("sqs-transport", "shop/orders/results.py:3"),
    ("remote-control", "shop/orders/results.py:12"),
    ("task-option", "shop/orders/tasks.py:7"),
    ("celery-command", "Dockerfile:3"),
    ("celery-command", "deploy/entrypoint:5"),
    ("command-gone", "deploy/entrypoint:7"),
    ("celery-command", "deploy/k8s.yaml:5"),
    ("remote-control", "deploy/k8s.yaml:9"),
    ("celery-command", "deploy/k8s.yaml:15"),
    ("celery-command", "deploy/supervisor/shop.conf:2"),
    ("unknown-flag", "deploy/supervisor/shop.conf:2"),
    ("flag-idle", "deploy/supervisor/shop.conf:2"),
}
IN_THE_APPLICATION = {
    ("setting-idle", "broker_pool_limit"),
    ("setting-idle", "worker_state_db"),
    ("setting-unknown", "task_seralizer"),
    ("early-acks", "task_acks_late"),
    ("pickle", "accept_content"),
    ("pickle", "result_serializer"),
    ("result-backend", "result_backend"),
    ("task-option", "shop/orders/tasks.py:7"),
    ("time-limit", "shop.orders.tasks.settle"),
    ("priority", "shop.orders.tasks.remind"),
}


def findings(done):
    return {(each["code"], each["place"]) for each in json.loads(done.stdout)}


@pytest.fixture
def migrated(command):
    command("migrate", "--write", ".")
    return command


def test_every_finding_in_files_has_its_place(command):
    done = command("doctor", "--path", ".", "--format", "json")

    assert findings(done) >= IN_FILES
    assert done.returncode == 1


def test_what_is_right_is_not_found(command):
    found = {place for _, place in findings(command("doctor", "--path", ".", "--format", "json"))}

    assert not {place for place in found if place.startswith(("shop/ops/relative.py", "docker-compose.yml:9"))}
    assert "shop/orders/control.py:13" not in found  # purge works
    assert not {"shop/orders/control.py:5", "shop/orders/results.py:9"} & found  # marks in the result store
    assert not {"shop/orders/results.py:10", "shop/orders/results.py:11"} & found  # revoke and control of others
    assert "shop/reports/wrapped.py:9" not in found  # an annotation says what the imports say
    assert not {"deploy/entrypoint:2", "deploy/entrypoint:3", "Dockerfile:2"} & found  # prose, and an installation
    commands = [place for code, place in findings(command("doctor", "--path", "deploy", "--format", "json"))]
    assert len([place for place in commands if "k8s" in place]) == 3  # each command once


def test_places_begin_as_the_path_that_was_given(command):
    assert ("celery-import", "shop/orders/tasks.py:1") in findings(
        command("doctor", "--path", "shop/orders", "--path", "shop", "--format", "json")
    )


def test_places_are_in_the_order_of_their_lines(command, tmp_path):
    (tmp_path / "many.py").write_text("from celery import uuid\n" * 11)

    shown = command("doctor", "--path", tmp_path).stdout

    assert shown.index("many.py:2 ") < shown.index("many.py:10 ")


def test_every_finding_of_the_application(migrated):
    done = migrated("-A", "shop", "doctor", "--offline", "--format", "json")

    assert findings(done) >= IN_THE_APPLICATION | {("queues-unseen", "SQS")}
    assert ("setting-unknown", "MY_OWN_THING") not in findings(done)
    assert done.returncode == 1


def test_queues_are_looked_at_where_they_can_be(migrated, sqs):
    # given a queue that SQS moves messages from after two receipts
    dead = sqs.client.queue_attributes(sqs.client.create_queue("shop-dead", {}), "shop-dead")["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": dead, "maxReceiveCount": "2"})
    sqs.client.create_queue("shop", {"RedrivePolicy": redrive})

    found = findings(migrated("-A", "shop", "doctor", "--format", "json", **sqs.environment))

    assert {
        ("few-receives", "shop"),
        ("retries-cut-short", "shop.reports.tasks.nightly"),
        ("long-task", "shop.orders.tasks.remind"),
    } <= found

    # and when it keeps messages for less time than they are good for
    sqs.wipe()
    sqs.client.create_queue("shop", {"MessageRetentionPeriod": "3600"})
    assert ("short-retention", "shop.reports.tasks.nightly") in findings(
        migrated("-A", "shop", "doctor", "--format", "json", **sqs.environment)
    )

    # and when it has no redrive policy, or is not there
    sqs.wipe()
    assert ("queue-missing", "shop") in findings(
        migrated("-A", "shop", "doctor", "--format", "json", **sqs.environment)
    )
    sqs.client.create_queue("shop", {})
    assert ("no-dead-letters", "shop") in findings(
        migrated("-A", "shop", "doctor", "--format", "json", **sqs.environment)
    )


def test_queues_out_of_reach_are_one_finding(migrated):
    done = migrated(
        "-A", "shop", "doctor", "--format", "json",
        AWS_ENDPOINT_URL_SQS="http://127.0.0.1:9", AWS_ACCESS_KEY_ID="k", AWS_SECRET_ACCESS_KEY="s",
    )  # fmt: skip

    assert ("queues-unseen", "SQS") in findings(done)
    assert "Traceback" not in done.stderr


def test_a_clean_project_has_nothing_to_find(command, tmp_path):
    (tmp_path / "clean").mkdir()
    (tmp_path / "clean" / "tasks.py").write_text("from pyqs_celery import shared_task\n\n@shared_task\ndef a(): pass\n")
    (tmp_path / "clean" / "Procfile").write_text("worker: pyqs-celery -A clean worker -Q 'a.*'\n")

    done = command("doctor", "--path", tmp_path / "clean")

    assert done.returncode == 0
    assert done.stdout.strip() == "Nothing will differ that could be seen."


def test_people_get_a_sentence_and_a_fix(command):
    shown = command("doctor", "--path", "Procfile").stdout

    assert "write: pyqs-celery -A shop worker -l INFO -c 4 --no-such-flag" in shown
    assert "the worker has no flag --no-such-flag" in shown
    assert "1 error, 2 warnings, 0 info." in shown


@pytest.mark.parametrize(("fail_on", "code"), [("error", 0), ("warning", 1)])
def test_the_exit_code_is_for_ci(command, fail_on, code):
    assert command("doctor", "--path", "shop/ops/bootstep.py", "--fail-on", fail_on).returncode == code


def test_an_application_that_does_not_load_is_a_usage_error(command):
    done = command("-A", "no_such_thing", "doctor")

    assert done.returncode == 2
    assert "no_such_thing" in done.stderr


def test_the_application_may_stand_behind_the_command_too(migrated):
    assert findings(migrated("doctor", "-A", "shop", "--offline", "--format", "json")) >= IN_THE_APPLICATION


@pytest.mark.parametrize("fault", ["import no_such_thing", "raise RuntimeError('in tasks')", "x = = 1"])
def test_tasks_that_do_not_load_are_a_usage_error(migrated, project, fault):
    (project / "shop/orders/tasks.py").write_text(fault)

    done = migrated("-A", "shop", "doctor", "--offline")

    assert done.returncode == 2
    assert "cannot be imported" in done.stderr
    assert "Traceback" not in done.stderr
