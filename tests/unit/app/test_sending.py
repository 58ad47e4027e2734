"""From a call to a message: options, routes, times, serializers, and what is refused before anything is sent."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import pytest
from kombu.exceptions import EncodeError, OperationalError

from pyqs_celery import signals
from pyqs_celery.exceptions import InvalidRequest


@pytest.fixture
def add(app):
    @app.task(name="proj.add")
    def add(x, y=1):
        return x + y

    return add


def test_delay_sends_one_message_that_names_the_task(app, add, sent):
    result = add.delay(2, y=3)

    [message] = sent()
    assert (message.task, message.args, message.kwargs, message.id) == ("proj.add", [2], {"y": 3}, result.id)
    assert message.root_id == message.id
    assert message.protocol == 2


def test_send_task_needs_no_task(app, sent):
    app.send_task("other.project.task", (1,), queue="email.tasks")

    [message] = sent("email-tasks")
    assert message.task == "other.project.task"


def test_every_publish_goes_through_an_overridden_send_task(app, add):
    calls = []
    app.send_task = lambda name, args=None, kwargs=None, **options: calls.append((name, args))

    add.delay(1)
    add.apply_async((2,))

    assert calls == [("proj.add", (1,)), ("proj.add", (2,))]


@pytest.mark.parametrize(
    ("routes", "queue"),
    [
        ({"proj.add": {"queue": "exact"}}, "exact"),
        ({"proj.*": {"queue": "glob"}}, "glob"),
        ({"proj.*": "text"}, "text"),
        ([(re.compile(r"proj\.\w+"), {"queue": "regex"})], "regex"),
        ((lambda name, args, kwargs, options, task=None, **_: {"queue": "function"},), "function"),
        ([{"other.*": "no"}, {"proj.add": "second"}], "second"),
        ({"other": "no"}, "celery"),
    ],
)
def test_routes(app, add, sent, routes, queue):
    app.conf.task_routes = routes

    add.delay(1)

    assert len(sent(queue)) == 1


def test_the_call_wins_over_the_route_and_the_route_over_the_default(app, add, sent):
    app.conf.task_routes = {"proj.*": "routed"}

    add.apply_async((1,), queue="called")

    assert len(sent("called")) == 1


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml", "msgpack"])
@pytest.mark.parametrize("compression", [None, "gzip", "bzip2", "zstd", "brotli"])
def test_serializers_and_compressions(app, add, sent, serializer, compression):
    add.apply_async((["é", 1.5, None],), serializer=serializer, compression=compression)

    [message] = sent()
    assert message.args == [["é", 1.5, None]]


def test_protocol_1(app, add, sent):
    app.conf.task_protocol = 1
    add.delay(1)

    [message] = sent()
    assert (message.protocol, message.args) == (1, [1])


def test_a_short_countdown_is_sqs_delay_and_a_header_for_celery(app, add, sent):
    add.apply_async((1,), countdown=600)

    assert sent() == []
    assert sent.delayed() == 1


def test_a_long_countdown_waits_its_longest_delay(app, add, sent):
    add.apply_async((1,), eta=datetime.now(timezone.utc) + timedelta(days=30))

    assert sent.delayed() == 1


def test_fifo_groups_and_deduplication(app, add, sent):
    for key in ("a", "a", "b"):
        add.apply_async((1,), queue="orders.fifo", MessageGroupId=key, MessageDeduplicationId=key)

    groups = [message["Attributes"]["MessageGroupId"] for message in sent.raw("orders.fifo")]
    assert groups == ["a", "b"]


def test_message_attributes_are_sqs_own(app, add, sent):
    add.apply_async((1,), message_attributes={"tenant": {"DataType": "String", "StringValue": "a"}})

    [message] = sent.raw("celery")
    assert message["MessageAttributes"]["tenant"]["StringValue"] == "a"


def test_the_prefix_goes_before_every_name(app, add, sent):
    app.conf.broker_transport_options = {"queue_name_prefix": "prod."}

    add.apply_async((1,), queue="email.send")

    assert sent.queues() == ["prod-email-send"]


def test_headers_and_options_travel(app, add, sent):
    add.apply_async((1,), headers={"tenant": "a"}, priority=5, shadow="s", time_limit=9, soft_time_limit=8, expires=60)

    [message] = sent()
    assert message.headers == {"tenant": "a"}
    assert (message.priority, message.shadow, message.timelimit) == (5, "s", [9, 8])
    assert message.expires_at is not None


def test_signals_get_the_very_dicts_that_are_sent(app, add, sent):
    seen = []

    def receiver(sender, headers, body, properties, **_):
        headers["added"] = "by a receiver"
        seen.append((sender, body[0]))

    signals.before_task_publish.connect(receiver)
    try:
        add.delay(7)
    finally:
        signals.before_task_publish.disconnect(receiver)

    assert seen == [("proj.add", (7,))]
    assert sent()[0].headers == {"added": "by a receiver"}


# -- refused before anything is sent -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda add: add.delay(object()), EncodeError),
        (lambda add: add.delay(1, 2, 3), TypeError),
        (lambda add: add.apply_async("text"), TypeError),
        (lambda add: add.apply_async((1,), queue="q.fifo", DelaySeconds=5), InvalidRequest),
        (lambda add: add.apply_async((1,), DelaySeconds=901), InvalidRequest),
        (lambda add: add.apply_async((1,), DelaySeconds=-1), InvalidRequest),
        (lambda add: add.apply_async(("x" * 1_100_000,)), OperationalError),
    ],
    ids=[
        "unserialisable",
        "wrong arguments",
        "args is text",
        "delay on FIFO",
        "long delay",
        "negative delay",
        "too large",
    ],
)
def test_a_call_that_cannot_be_sent_says_so_and_sends_nothing(app, add, sent, call, error):
    with pytest.raises(error):
        call(add)

    assert all(sent.raw(queue) == [] for queue in sent.queues())


def test_eager_tasks_run_here(app, add, sent):
    app.conf.task_always_eager = True

    assert add.delay(2, 3).get() == 5
    assert sent.queues() == []


def test_a_setting_changed_after_a_send_holds_for_the_next(app, sent):
    app.send_task("proj.any", (1,))
    assert app.conf.task_serializer == "json"

    app.conf.task_serializer = "pickle"
    app.conf.update(task_default_queue="other", task_compression="gzip", task_default_priority=3)
    app.conf.task_routes = {"proj.routed": {"queue": "routed"}}
    app.conf.task_protocol = 1
    app.send_task("proj.any", (2,))
    app.send_task("proj.routed", (3,))

    [second] = sent("other")
    assert (second.content_type, second.compression) == ("application/x-python-serialize", "application/x-gzip")
    assert (second.priority, second.protocol) == (3, 1)
    [third] = sent("routed")
    assert third.args[0] == 3


def test_a_default_added_after_a_send_holds_for_the_next(app, sent):
    app.send_task("proj.any")
    app.add_defaults({"sqs_message_group_id": "a", "proj_own": 1})

    assert app.conf.proj_own == 1


def test_options_of_the_publisher_may_change(app):
    first = app.publisher()
    app.conf.sqs_publish_timeout = 3

    assert (first.budget_seconds, app.publisher().budget_seconds) == (10, 3)


@pytest.mark.parametrize("args", [(), (1, 2, 3)])
def test_arguments_are_counted_before_anything_is_sent(app, add, sent, args):
    with pytest.raises(TypeError, match=r"proj.add\(\) .*argument"):
        add.delay(*args)

    add.delay(1)
    add.delay(1, 2)
    assert [message.args for message in sent()] == [[1], [1, 2]]
