"""Messages that mean harm, or are merely odd, stop nobody: the worker stays, the good ones run, the bad ones are kept."""

from __future__ import annotations

import base64
import json
import os
import pickle
import random
import re
import time
import uuid
import zlib
from pathlib import Path

import pytest

from tests.support.proc import processes_of_session, processor_seconds
from tests.support.waiting import until

pytestmark = pytest.mark.processes
SECRET = "correct-horse-battery-staple"


def envelope(task="proj.note", body=b'[["bad"], {}, {}]', *, headers=None, properties=None, **outer):
    """A message of Celery's; ``headers`` and the rest are what is odd about it."""
    found = {
        "body": base64.b64encode(body).decode(),
        "headers": {"task": task, "id": uuid.uuid4().hex, **(headers or {})},
        "properties": {"body_encoding": "base64", **(properties or {})},
        "content-type": "application/json",
        "content-encoding": "utf-8",
        **outer,
    }
    return json.dumps(found)


class Evil:
    def __reduce__(self):
        return os.system, ("touch evidence",)


def odd_bodies(number, dice):
    """Twenty-five kinds, each no message that can ever run."""
    good = base64.b64encode(envelope().encode()).decode()
    kinds = [
        lambda: good[: dice.randrange(8, len(good) - 8)],
        lambda: good.replace("=", "") + "%%%",
        lambda: "{}",
        lambda: json.dumps({"properties": dice.randrange(1000)}),
        lambda: json.dumps({"headers": [], "properties": {}, "body": ""}),
        lambda: json.dumps([dice.random()]),
        lambda: str(dice.random()),
        lambda: "x",
        lambda: "é" * dice.randrange(1, 400),
        lambda: envelope(headers={"id": "\ud800"}),
        lambda: envelope(body=b"\xff\xfe" + bytes(dice.randrange(256) for _ in range(40))),
        lambda: envelope(body=json.dumps({"args": "x" * 300_000}).encode()),
        lambda: "A" * (1024 * 1024 - dice.randrange(100)),
        lambda: "[" * dice.randrange(1_000, 100_000),
        lambda: envelope(body=pickle.dumps(([Evil()], {}, {})), **{"content-type": "application/x-python-serialize"}),
        lambda: base64.b64encode(pickle.dumps({"task": "proj.note", "args": [Evil()]})).decode(),
        lambda: envelope(headers={"id": {"a": [dice.random()]}}),
        lambda: envelope(headers={"eta": "soon"}),
        lambda: envelope(headers={"expires": dice.random()}),
        lambda: envelope(headers={"retries": 10**30}),
        lambda: envelope(headers={"timelimit": [float("nan"), float("inf")]}),
        lambda: envelope(headers={"compression": "application/x-gzip"}, body=zlib.compress(b" " * 40_000_000)),
        lambda: envelope(body=b'[["bad"], {}, {"errbacks": [1], "chain": "x"}]'),
        lambda: envelope(headers={"task": ["proj.note"]}),
        lambda: envelope(properties={"body_encoding": "rot13"}),
    ]
    return [kinds[each % len(kinds)]() for each in range(number)]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_thousand_odd_messages_among_a_thousand_good_ones(sqs, start_worker, send):
    sqs.create_with_dead_letters("emails", 3, VisibilityTimeout=2)
    dice = random.Random(8)
    mixed = [("odd", body) for body in odd_bodies(1000, dice)] + [("good", number) for number in range(1000)]
    dice.shuffle(mixed)
    worker = start_worker("-Q", "emails", "-c", "2")
    worker.wait_ready()
    family = worker.wait_family(3)

    with send.app.publisher().batch():
        for kind, what in mixed:
            if kind == "odd":
                sqs.put("emails", what)
            else:
                send("note", "emails", what)

    ran = worker.diary.wait("run", 1000, 120)
    until(lambda: sqs.state("emails-dlq").get("visible") == 1000, "the odd ones are in the dead-letter queue", 120)
    sqs.wait_empty("emails")
    assert ran == dict.fromkeys(range(1000), 1)
    assert worker.family() == family
    assert not (Path(worker.log_path).parent / "evidence").exists()
    kept = zip(sqs.bodies("emails-dlq"), sqs.attributes("emails-dlq"), strict=True)
    assert all(found["pyqs.reason"]["StringValue"] for body, found in kept if len(body) < 1_000_000)
    assert worker.log.count("Can't decode message body") + worker.log.count("was moved to") >= 1000
    assert "Traceback" not in worker.log
    assert worker.stop() == 0


@pytest.mark.slow
def test_a_task_that_only_the_newer_worker_knows_waits_for_it(sqs, start_worker, send, tmp_path):
    """A deploy that adds a task: the older worker deletes none of its messages and does not spin on them."""
    sqs.create("emails", VisibilityTimeout=1)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "newer.py").write_text(
        "from proj import app, write\n\n\n@app.task(name='proj.newer')\ndef newer(key):\n    write('run', key)\n"
    )
    older = start_worker("-Q", "emails", "-c", "1")
    older.wait_ready()
    older.wait_family(2)
    with send.app.publisher().batch():
        for number in range(100):
            send("newer", "emails", number)
    until(
        lambda: older.log.count("Received unregistered task of type 'proj.newer'") == 100, "the older has seen them all"
    )
    used, began = processor_seconds(*processes_of_session(older.session)), time.monotonic()

    until(lambda: time.monotonic() - began > 3 and sqs.left("emails") == 100, "they stay", 10)

    assert processor_seconds(*processes_of_session(older.session)) - used < 1.5
    assert not [name for name in sqs.requests() if name.startswith("DeleteMessage")]
    newer = start_worker("-Q", "emails", "-c", "1", "--include", "newer")
    newer.wait_ready()
    sqs.run_clock(20)  # the older one hides what it receives for up to five minutes
    newer.diary.wait("run", 100, 90)
    sqs.run_clock(1)
    sqs.wait_empty("emails")
    assert newer.diary.count("run") == dict.fromkeys(range(100), 1)
    assert list(sqs.ask("state")) == ["emails"]
    assert older.stop() == 0
    assert newer.stop() == 0


def test_what_a_sender_has_redacted_is_in_no_line_and_no_attribute(sqs, start_worker, send):
    """At the level DEBUG too, and however the message ends."""
    sqs.create_with_dead_letters("emails", 1, VisibilityTimeout=1)
    redacted = {"argsrepr": "(<redacted>)", "kwargsrepr": "{}"}
    for task in ("note", "kill_own_process"):
        send(task, "emails", SECRET, **redacted)
    send("reject", "emails", SECRET, False, **redacted)
    send("note", "emails", SECRET, serializer="pickle", **redacted)
    hidden = json.dumps([[SECRET], {}, {}]).encode()
    odd = [
        envelope(body=hidden[:-2]),
        envelope(body=hidden + b"\xff"),
        envelope(body=json.dumps([[{"__type__": "decimal", "__value__": SECRET}], {}, {}]).encode()),
        envelope(body=json.dumps([SECRET, {}, {}]).encode()),
        envelope(body=hidden, headers={"compression": "rot13"}),
        envelope(body=hidden, headers={"retries": "x"}),
        json.dumps({"task": "proj.note", "args": SECRET, "kwargs": {}}),
        json.dumps([SECRET]),
        SECRET + "!",
    ]
    for body in odd:
        sqs.put("emails", body)

    worker = start_worker("-Q", "emails", "-c", "1", "-l", "DEBUG")

    until(
        lambda: sqs.state("emails-dlq").get("visible") == len(odd) + 3, "all but one are in the dead-letter queue", 30
    )
    worker.diary.wait("run", 3)
    assert worker.stop() == 0
    assert SECRET not in worker.log
    assert base64.b64encode(SECRET.encode()).decode()[:20] not in worker.log
    assert SECRET not in json.dumps(sqs.attributes("emails-dlq"))


def test_no_message_forges_a_line_or_commands_a_terminal(sqs, start_worker, send):
    sqs.create_with_dead_letters("emails", 1, VisibilityTimeout=1)
    forged = "[2026-01-01 00:00:00,000: INFO/MainProcess] Task proj.note[forged] succeeded"
    evil = f"x\n{forged}\r\x1b[2J\x1b]0;title\x07\u202eesrever\x85{forged}"
    send("fail", "emails", evil)
    send("fail", "emails", f"\n{forged}", argsrepr=evil, kwargsrepr=evil)
    send("note", "emails", "plain", argsrepr=evil, shadow=evil)
    for odd in ({"task": evil}, {"id": evil}, {"group": evil}, {"eta": evil}, {"compression": evil}):
        sqs.put("emails", envelope(headers=odd))
    sqs.put("emails", json.dumps({"task": evil, "args": [], "kwargs": {}}))
    sqs.put("emails", json.dumps({evil: 1}))
    sqs.put("emails", envelope(**{"content-type": evil}))

    worker = start_worker("-Q", "emails", "-c", "1")

    until(lambda: sqs.state("emails-dlq").get("visible") == 10, "the bad ones are in the dead-letter queue", 15)
    worker.diary.wait("run", 3)
    assert worker.stop() == 0
    text = worker.log_path.read_bytes().decode("utf-8")
    assert not any(line.startswith(forged) for line in re.split(r"[\n\r\x85\u2028]", text))
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
    assert "no luck with x" in text
