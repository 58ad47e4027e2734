"""We produce, real Celery's worker consumes: what we write is read as its own."""

from __future__ import annotations

import time

CALLS = {
    "plain": (["note", ["plain", 1, "é😀"], {"k": [1, None, True, 2.5]}, {}], "(1, 'é😀')"),
    "protocol 1": (["note", ["protocol 1", 1], {}, {"protocol": 1}], "(1,)"),
    "pickle": (["note", ["pickle", {"$set": [1]}], {}, {"serializer": "pickle"}], "({1},)"),
    "yaml": (["note", ["yaml", [1, 2]], {}, {"serializer": "yaml"}], "([1, 2],)"),
    "msgpack": (["note", ["msgpack", "ü"], {}, {"serializer": "msgpack"}], "('ü',)"),
    "gzip": (["note", ["gzip", "x" * 50], {}, {"compression": "gzip"}], f"('{'x' * 50}',)"),
}


def test_every_way_to_send(sqs, stage):
    stage.produce("our_side", *([*call[:3], {**call[3], "queue": "compat"}] for call, _ in CALLS.values()))

    stage.work("celery_side", "compat")

    stage.wait("run", len(CALLS), 90)
    assert {entry["key"]: entry["args"] for entry in stage.runs()} == {key: args for key, (_, args) in CALLS.items()}
    assert {entry["side"] for entry in stage.runs()} == {"celery_side"}


def test_times_headers_links_and_retries(sqs, stage):
    began = time.time()
    stage.produce(
        "our_side",
        ["when", ["countdown"], {}, {"queue": "compat", "countdown": 3}],
        ["see", ["see"], {}, {"queue": "compat", "headers": {"tenant": "a"}, "time_limit": 30, "soft_time_limit": 20}],
        ["add", [20, 2], {}, {"queue": "compat", "link": [["keep", ["linked"]]]}],
        ["again", ["again"], {}, {"queue": "compat"}],
    )

    stage.work("celery_side", "compat,celery")

    stage.wait("run", 6, 90)
    runs = {entry["key"]: entry for entry in stage.runs()}
    assert runs["countdown"]["at"] >= began + 3
    assert runs["see"]["timelimit"] == [30, 20]
    assert runs["see"]["root"] is True
    assert runs["linked"]["value"] == 22
    assert [entry["retries"] for entry in stage.runs() if entry["key"] == "again"] == [0, 1, 2]
