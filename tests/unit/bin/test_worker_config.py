"""Flags and settings folded into one value."""

from __future__ import annotations

import pytest

from pyqs_celery import Celery
from pyqs_celery.bin.errors import UsageError
from pyqs_celery.bin.options import no_flags
from pyqs_celery.bin.worker_config import Machine, build, import_patterns, queue_names

MACHINE = Machine("box.example.org", 8)


def config(names=(), app_spec="proj", settings=None, **flags):
    conf = Celery("c", set_as_current=False, **(settings or {})).conf
    return build(conf, {**no_flags(), **flags}, names, MACHINE, app_spec=app_spec)


def test_defaults():
    made = config()
    assert (made.concurrency, made.pool, made.hostname) == (8, "prefork", "celery@box.example.org")
    assert (made.lease_seconds, made.max_deliveries, made.shutdown_timeout) == (None, 5, 25.0)


def test_flags_win_over_settings():
    settings = {"worker_concurrency": 3, "worker_pool": "threads", "task_time_limit": 10}
    assert (config(settings=settings).concurrency, config(settings=settings).pool) == (3, "threads")

    made = config(settings=settings, concurrency="5", pool="prefork", time_limit=20.0)
    assert (made.concurrency, made.pool, made.time_limit) == (5, "prefork", 20.0)


def test_queues_with_weights():
    assert queue_names(["high:10,low", "email.*:2"]) == (("high", "low", "email.*"), {"high": 10, "email.*": 2}, {})


def test_queues_with_limits():
    found = queue_names(["slow=2,fast", "email.*:3=1"])
    assert found == (("slow", "fast", "email.*"), {"email.*": 3}, {"slow": 2, "email.*": 1})


@pytest.mark.parametrize("text", ["a:0", "a:x", "a:-1", "a:"])
def test_a_weight_is_a_whole_number(text):
    with pytest.raises(UsageError, match="weight"):
        queue_names([text])


@pytest.mark.parametrize("text", ["a=0", "a=x", "a=-1", "a=", "a:2="])
def test_a_limit_is_a_whole_number(text):
    with pytest.raises(UsageError, match="limit"):
        queue_names([text])


@pytest.mark.parametrize("text", ["a=2:3", "a:1:2", "a=1=2"])
def test_a_queue_is_named_in_one_way(text):
    with pytest.raises(UsageError, match="NAME:WEIGHT=LIMIT"):
        queue_names([text])


def test_a_limit_of_the_command_line_wins_over_the_settings():
    made = config(settings={"worker_queue_concurrency": {"slow": 1, "bulk": 3}}, queues=["slow=2,bulk,fast"])
    assert made.queues == ("slow", "bulk", "fast")
    assert made.queue_concurrency == {"slow": 2, "bulk": 3}


def test_the_order_of_queues_is_a_flag_or_a_setting():
    strict = {"worker_queue_order": "strict"}
    assert [config().queue_order, config(settings=strict).queue_order] == ["weighted", "strict"]
    assert config(settings=strict, queue_order="weighted").queue_order == "weighted"
    with pytest.raises(UsageError, match="weighted or strict"):
        config(settings={"worker_queue_order": "first"})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"worker_open_polls": 0}, "no message comes"),
        ({"worker_open_polls": -1}, "no message comes"),
        ({"worker_open_polls": 10, "worker_queue_order": "strict"}, "only its own poll tells"),
    ],
)
def test_a_number_of_open_polls_that_would_leave_queues_out_is_refused(settings, said):
    assert config(settings={"worker_open_polls": 1}).open_polls == 1
    with pytest.raises(UsageError, match=said):
        config(settings=settings)


def test_pyqs_way_of_naming_queues_runs_one_process():
    assert config(["send_email"], app_spec=None).concurrency == 1
    assert config(["send_email"], app_spec=None).queues == ("send_email",)


def test_the_simple_worker_takes_one_at_a_time():
    made = config(simple_worker=True, batch_size=10)
    assert (made.simple, made.batch_size) == (True, 1)


def test_solo_has_one_slot():
    assert config(pool="solo", concurrency="9").concurrency == 1


def test_autoscale_runs_its_maximum():
    assert config(autoscale="10,3").concurrency == 10
    with pytest.raises(UsageError, match="autoscale"):
        config(autoscale="many")


def test_names_of_nodes():
    assert config(hostname="w1@%n.%d").hostname == "w1@box.example.org"


def test_what_a_pyqs_message_may_import():
    assert import_patterns("proj.celery:app", ["more.tasks"], ["email.*"]) == (
        "proj",
        "proj.*",
        "more.tasks",
        "more.tasks.*",
        "email.*",
    )


@pytest.mark.parametrize(
    ("name", "words"), [("sqs_delivery", "'pyqs' or 'celery'"), ("sqs_retry", "'message' or 'native'")]
)
def test_a_setting_that_says_none_of_what_it_may_is_refused(name, words):
    for word in words.replace("'", "").split(" or "):
        assert config(settings={name: word})
    with pytest.raises(UsageError, match=f"{name} is 'celry'; it may be {words}"):
        config(settings={name: "celry"})
