"""Real Celery produces, our worker consumes."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from tests.contract.conftest import moto_endpoint  # noqa: F401 - a fixture

CALLS = {
    "plain": (["note", ["plain", 1, "é😀"], {"k": [1, None, True, 2.5]}, {}], "(1, 'é😀')"),
    "protocol 1": (["note", ["protocol 1", 1], {}, {"protocol": 1}], "(1,)"),
    "pickle": (["note", ["pickle", {"$set": [1]}], {}, {"serializer": "pickle"}], "({1},)"),
    "pickle, protocol 1": (["note", ["pickle, protocol 1", 2], {}, {"serializer": "pickle", "protocol": 1}], "(2,)"),
    "yaml": (["note", ["yaml", [1, 2]], {}, {"serializer": "yaml"}], "([1, 2],)"),
    "msgpack": (["note", ["msgpack", "ü"], {}, {"serializer": "msgpack"}], "('ü',)"),
    "gzip": (["note", ["gzip", "x" * 50], {}, {"compression": "gzip"}], f"('{'x' * 50}',)"),
    "bzip2": (["note", ["bzip2", 3], {}, {"compression": "bzip2"}], "(3,)"),
    "expires later": (["note", ["expires later"], {}, {"expires": 600}], "()"),
    "priority": (["note", ["priority"], {}, {"priority": 7}], "()"),
}


@pytest.mark.parametrize("server", ["embedded", pytest.param("moto", marks=pytest.mark.moto)])
def test_every_way_to_send(request, sqs, make_stage, server):
    stage = make_stage(sqs.endpoint if server == "embedded" else request.getfixturevalue("moto_endpoint"))
    stage.produce("celery_side", *([*call[:3], {**call[3], "queue": f"compat-{server}"}] for call, _ in CALLS.values()))

    stage.work("our_side", f"compat-{server}")

    stage.wait("run", len(CALLS))
    assert {entry["key"]: entry["args"] for entry in stage.runs()} == {key: args for key, (_, args) in CALLS.items()}


def test_times_headers_and_limits(sqs, stage):
    began = time.time()
    stage.produce(
        "celery_side",
        ["when", ["countdown"], {}, {"queue": "compat", "countdown": 3}],
        ["note", ["expired"], {}, {"queue": "compat", "expires": {"$in_seconds": -5}}],
        ["see", ["see"], {}, {"queue": "compat", "headers": {"tenant": "a"}, "time_limit": 30, "soft_time_limit": 20}],
    )

    stage.work("our_side", "compat")

    stage.wait("run", 2)
    runs = {entry["key"]: entry for entry in stage.runs()}
    assert set(runs) == {"countdown", "see"}
    assert runs["countdown"]["at"] >= began + 3
    assert runs["see"]["headers"]["tenant"] == "a"
    assert runs["see"]["timelimit"] == [30, 20]
    assert runs["see"]["root"] is True
    sqs.wait_empty("compat")


def test_chains_links_and_retries_begun_by_celery(sqs, stage):
    stage.produce(
        "celery_side",
        ["add", [1, 2], {}, {"queue": "compat", "chain": [["add", [10]], ["keep", ["chained"]]]}],
        ["add", [20, 2], {}, {"queue": "compat", "link": [["keep", ["linked"]]]}],
        ["again", ["again"], {}, {"queue": "compat"}],
    )

    # the steps are routed by their own options, so the chain goes on in the default queue
    stage.work("our_side", "compat,celery", "--create-queues")

    stage.wait("run", 5)
    values = {entry["key"]: entry.get("value") for entry in stage.runs()}
    assert (values["chained"], values["linked"]) == (13, 22)
    retries = [entry for entry in stage.runs() if entry["key"] == "again"]
    assert [entry["retries"] for entry in retries] == [0, 1, 2]
    assert len({entry["id"] for entry in retries}) == 1


def test_fifo_queues(sqs, stage):
    sqs.create("orders.fifo", ContentBasedDeduplication="true")
    options = {"queue": "orders.fifo", "MessageGroupId": "g"}
    stage.produce(
        "celery_side",
        *(["note", [n], {}, {**options, "MessageDeduplicationId": str(n)}] for n in range(6)),
    )

    stage.work("our_side", "orders.fifo")

    stage.wait("run", 6)
    assert [entry["key"] for entry in stage.runs()] == list(range(6))


def test_a_thousand_waiting_messages_of_a_real_producer(sqs, stage):
    stage.produce("celery_side", *(["note", [n], {}, {"queue": "compat"}] for n in range(1000)))
    assert sqs.left("compat") == 1000
    sqs.ask("reset")

    stage.work("our_side", "compat", "-c", "4")

    sqs.wait_empty("compat", 90)
    assert stage.diary.count("run") == Counter(range(1000))
    requests = sqs.requests()
    assert sum(requests.values()) <= 250, requests
