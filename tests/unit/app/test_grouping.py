"""Which group and which deduplication id a message gets."""

from __future__ import annotations

import pytest

from pyqs_celery import Celery
from pyqs_celery.app.grouping import deduplication_id, message_group
from pyqs_celery.app.retrying import earlier_tries, is_last_receipt


@pytest.fixture
def app():
    made = Celery("groups", broker="memory://", set_as_current=False)
    yield made
    made.close()


def group(app, options=None, properties=None, headers=None):
    return message_group(app, "t", (1,), None, options or {}, properties or {}, headers or {})


def test_what_celery_users_write_wins(app):
    app.conf.sqs_message_group_id = "all"

    assert group(app, {"message_group_id": "task"}, {"MessageGroupId": "by hand"}) == "by hand"
    assert group(app, {"message_group_id": "task"}) == "task"
    assert group(app) == "all"


def test_without_any_there_is_none(app):
    assert group(app) is None
    assert group(app, {"message_group_id": ""}) is None


def test_a_header_names_it_and_may_be_missing(app):
    options = {"message_group_id": "header:tenant"}

    assert group(app, options, headers={"tenant": 7}) == "7"
    assert group(app, options) is None


def test_a_function_is_given_the_call(app):
    seen = []

    def choose(*call):
        seen.append(call)
        return f"g{call[1][0]}"

    assert group(app, {"message_group_id": choose}) == "g1"
    assert seen == [("t", (1,), {}, {"message_group_id": choose})]


def test_a_task_is_its_own_deduplication_id_and_each_retry_has_one_that_stays():
    assert deduplication_id("abc", {}) == "abc"
    assert deduplication_id("abc", {"retries": 1}) == deduplication_id("abc", {"retries": 1}) != "abc"
    ids = {deduplication_id("abc", {"retries": r, "replaced_task_nesting": n}) for r in range(3) for n in range(3)}
    assert len(ids) == 9


@pytest.mark.parametrize("task_id", ["with space", "x" * 129, "ü"])
def test_an_id_that_sqs_would_refuse_is_shortened_the_same_way_each_time(task_id):
    found = deduplication_id(task_id, {})

    assert len(found) == 64
    assert found == deduplication_id(task_id, {})


def test_tries_are_receipts_but_those_without_a_run():
    assert earlier_tries({}) == 0
    assert earlier_tries({"receive_count": 4}) == 3
    assert earlier_tries({"receive_count": 4, "unrun_count": 2}) == 1
    assert earlier_tries({"receive_count": 1, "unrun_count": 3}) == 0


@pytest.mark.parametrize(("received", "most", "last"), [(2, 3, False), (3, 3, True), (9, None, False)])
def test_sqs_has_the_last_word_on_how_often_a_message_comes_back(received, most, last):
    assert is_last_receipt({"receive_count": received, "max_receive_count": most}) is last
    assert not is_last_receipt(None)
