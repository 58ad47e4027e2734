"""Checks of settings, tasks and queues on applications made for them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pyqs_celery import Celery
from pyqs_celery.broker.delivery import QueueInfo, RedrivePolicy
from pyqs_celery.broker.queues import FoundQueues
from pyqs_celery.doctor import Context, queues_of
from pyqs_celery.doctor.queue_checks import check_queues
from pyqs_celery.doctor.settings_checks import check_settings
from pyqs_celery.doctor.task_checks import check_tasks

SAFE = RedrivePolicy("arn:aws:sqs:us-east-1:1:dead", 5)


@pytest.fixture
def app():
    return Celery("shop", broker="sqs://", set_as_current=False, config_source={})


def said(findings):
    return [(each.severity, each.code, each.place) for each in findings]


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("CELERY_TASK_SERALIZER", "CELERY_TASK_SERIALIZER"),
        ("CELERYD_CONCURENCY", "CELERYD_CONCURRENCY"),
        ("BROKER_TRANSPORT_OPTION", "BROKER_TRANSPORT_OPTIONS"),
        ("worker_prefetch_multipler", "worker_prefetch_multiplier"),
    ],
)
def test_a_misspelt_setting_is_told_in_its_own_style(typo, meant):
    app = Celery("shop", set_as_current=False, config_source={typo: 1})

    [finding] = check_settings(Context(app=app))

    assert (finding.code, finding.place, finding.fix) == ("setting-unknown", typo, f"write {meant}")


def test_a_misspelt_setting_in_a_namespace():
    app = Celery("shop", set_as_current=False, config_source={"SHOP_TASK_ACK_LATE": 1}, namespace="SHOP")

    [finding] = check_settings(Context(app=app))

    assert finding.fix == "write SHOP_TASK_ACKS_LATE"


@pytest.mark.parametrize("name", ["MY_OWN_THING", "CELERY_EMAIL_BACKEND", "SHOP_TASK_SERALIZER", "taskforce"])
def test_settings_of_others_are_theirs(name):
    assert not list(check_settings(Context(app=Celery("shop", set_as_current=False, config_source={name: 1}))))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"broker_url": "redis://x"}, ("error", "broker", "broker_url")),
        ({"accept_content": ["json", "pickle"]}, ("warning", "pickle", "accept_content")),
        ({"result_serializer": "pickle"}, ("error", "pickle", "result_serializer")),
        ({"result_accept_content": ["pickle"]}, ("error", "pickle", "result_serializer")),
        ({"result_backend": "amqp://"}, ("error", "result-backend", "result_backend")),
        ({"worker_send_task_events": True}, ("info", "setting-idle", "worker_send_task_events")),
        ({"worker_direct": True}, ("warning", "setting-idle", "worker_direct")),
    ],
)
def test_one_setting_one_finding(app, settings, expected):
    app.conf.update(settings)

    assert said(check_settings(Context(app=app))) == [expected]


def test_settings_as_they_should_be(app):
    app.conf.update(task_serializer="json", worker_concurrency=4, worker_send_task_events=False)

    assert not list(check_settings(Context(app=app)))


def test_options_from_elsewhere_are_looked_at_too(app):
    app.task(name="a", max_retry=5)(len)
    with pytest.warns(UserWarning, match="max_retries"):
        app.finalize()

    assert said(check_tasks(Context(app=app))) == [("warning", "task-option", "a")]


@pytest.mark.parametrize("limit", [{"time_limit": 50_000}, {"soft_time_limit": 50_000}])
def test_a_task_longer_than_sqs_allows(app, limit):
    app.task(name="a", **limit)(len)

    assert said(check_tasks(Context(app=app))) == [("error", "time-limit", "a")]


def test_native_retries_later_than_sqs_allows(app):
    app.conf.sqs_retry = "native"
    app.task(name="a", default_retry_delay=50_000)(len)

    assert said(check_tasks(Context(app=app))) == [("info", "retry-delay", "a")]


def test_the_queues_of_tasks_count_too(app):
    # given tasks on the default queue, on one of their own, on one by a route
    app.task(name="a")(len)
    app.task(name="b", queue="mail")(len)
    app.task(name="c")(len)
    app.conf.task_routes = {"c": {"queue": "films"}}

    assert queues_of(Context(app=app)) == ("celery", "mail", "films")


def on(app, queue, **context):
    return said(check_queues(Context(app=app, queues=FoundQueues((queue,)), **context)))


def test_a_queue_as_it_should_be(app):
    assert on(app, QueueInfo("celery", "url", "celery", redrive=SAFE)) == []


def test_a_fifo_queue_has_groups(app):
    assert on(app, QueueInfo("a.fifo", "url", "a.fifo", fifo=True, redrive=SAFE)) == [("info", "fifo-group", "a.fifo")]


@pytest.mark.parametrize("expires", [7200, timedelta(hours=2)])
def test_a_queue_keeps_messages_for_less_than_they_are_good(app, expires):
    app.task(name="a", expires=expires)(len)
    queue = QueueInfo("celery", "url", "celery", redrive=SAFE)

    assert on(app, queue, retention={"celery": 3600}) == [("warning", "short-retention", "a")]
    assert on(app, queue, retention={"celery": 86_400}) == []
    assert on(app, queue) == []
