"""Odd heads on the whole way of a message: the core admits it, its words are logged, a child opens and runs it.

Whatever a header holds, nothing raises, nothing hangs, no message is deleted whose task has not run, and the next good
message runs.
"""

from __future__ import annotations

import base64
import json
import logging
import math
import random
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from pyqs_celery import Celery
from pyqs_celery.outcome import Outcome
from pyqs_celery.utils.log import ColorFormatter
from pyqs_celery.wire.envelope import decode_head, head_to_plain
from pyqs_celery.worker import policies
from pyqs_celery.worker.channel import ChildEnd, ConsumerEnd, outcome_from_json
from pyqs_celery.worker.child import ChildLoop
from pyqs_celery.worker.config import WorkerConfig
from pyqs_celery.worker.core import values as v
from pyqs_celery.worker.core.engine import WorkerCore
from pyqs_celery.worker.notes import Notes
from tests.fuzz.test_decode import EXAMPLES, mutate_value
from tests.unit.worker.core_harness import QUEUE, World

CONFIG = WorkerConfig(hostname="w@h", import_patterns=("statistics", "statistics.*"))
DEEP: Any = json.loads("[" * 600 + "]" * 600)
ODD = {
    "nothing": None,
    "true": True,
    "minus one": -1,
    "huge": 10**30,
    "4,000 digits": int("9" * 4000),
    "infinite": float("inf"),
    "not a number": float("nan"),
    "largest": 1e308,
    "smallest": 5e-324,
    "empty": "",
    "half a pair": "\ud800",
    "control": "a\n[2026-01-01 00:00:00,000: INFO/MainProcess] Task b succeeded\x1b[2J\x00",
    "bidi": "\u202egnp.exe",
    "long": "x" * 1_000_000,
    "glob": "t.*",
    "path": "os.system",
    "traversal": "t.add.__globals__",
    "format": "{0.__class__} %s %(x)s %n",
    "a list": [1, "x", None],
    "lists in a list": [[1], {"a": []}],
    "an object": {"task": 1, "a": {"b": {}}},
    "a signature": {"task": "t.add", "args": "x", "kwargs": [], "options": 5},
    "pairs": [[1, 2], [3, 4]],
    "infinite pair": [float("inf"), float("nan")],
    "negative pair": [-1, -0.5],
    "huge pair": [10**400, 10**400],
    "the year 9999": "9999-12-31T23:59:59.999999+00:00",
    "the year 1": "0001-01-01T00:00:00+23:59",
    "no such day": "2026-02-30T25:61:61",
    "blanks": "2026-01-01T00:00" + " " * 500_000 + "x",
    "deep": DEEP,
    "many": ["x"] * 100_000,
    "bomb of stamps": {f"s{n}": [f"v{n}"] * 50 for n in range(1000)},
}
HEADERS = (
    "task id lang shadow eta expires group group_index retries timelimit root_id parent_id argsrepr kwargsrepr origin "
    "ignore_result replaced_task_nesting stamped_headers stamps compression taskset utc "
    # what a request has of its own: a header must not stand for it
    "get update clear children _children _protected _last_delivery _time_limit is_eager called_directly logfile loglevel "
    "headers sqs properties delivery_info hostname __class__ __dict__"
).split()
PROPERTIES = "body_encoding reply_to correlation_id priority delivery_info delivery_mode delivery_tag".split()
EMBEDDED = "callbacks errbacks chain chord".split()
OUTER = "body headers properties content-type content-encoding".split()


class Line:
    """A core, its notes and one child, as a worker joins them."""

    def __init__(self, app: Celery) -> None:
        self.app = app
        self.world = World(QUEUE)
        self.world.core = WorkerCore(v.CoreConfig(concurrency=1), policies.TaskPolicies(app, CONFIG), decode_head)
        self.world.polls.clear()
        self.world.core.set_queues((QUEUE,), self.world.now)
        self.world.core.on_slot_ready(0, self.world.now)
        self.world.now = time.time()
        self.world.act()
        self.notes = Notes(app, "w@h", self)
        ours, self.theirs = socket.socketpair()
        self.end = ConsumerEnd(ours)
        self.child = threading.Thread(target=ChildLoop(app, CONFIG, ChildEnd(self.theirs), is_process=False).run)
        self.child.start()
        self._answers: list[dict[str, Any]] = []
        self._answer()  # it is ready

    def _answer(self) -> dict[str, Any]:
        self.end.sock.setblocking(True)
        self.end.sock.settimeout(20)
        while not self._answers:
            found = self.end.read()
            assert found is not None, "the child is gone"
            self._answers.extend(found)
        return self._answers.pop(0)

    def give(self, action: v.Dispatch) -> Outcome:
        """As the consumer hands out work."""
        facts = {"message_id": action.delivery.message_id, "receive_count": 1, "logical": "q", "fetch_time": 1.0}
        facts |= {"queue_url": "http://sqs/q", "timeout": 30, "receipt_handle": "r"}
        self.end.sock.setblocking(True)
        try:
            work = (head_to_plain(action.head), facts, action.last, action.last_timeout, action.soft_time_limit, None)
            assert self.end.give(work)
            while self.end.is_sending:
                self.end.push()
        except ValueError as exc:
            return Outcome("undecodable", action.head.task, action.head.id, str(exc))
        return outcome_from_json(self._answer()["outcome"])

    def take(self, text: str, message_id: str) -> tuple[str, Outcome | None]:
        """Bring one message through: what became of it, and what the child said if it had it."""
        world = self.world
        began = time.process_time()
        world.arrive(world.delivery(message_id, text=text))
        outcome = None
        if world.running:
            outcome = self.give(world.running.pop(0))
            world.core.on_outcome(0, outcome, world.now)
            world.act()
        wakeup = world.core.next_wakeup(world.now)
        assert wakeup is None or math.isfinite(wakeup)
        for note in world.notes:
            self.notes.tell(note)
        world.notes.clear()
        fate = [type(each).__name__ for each in world.settling]
        if any(isinstance(each, v.DeadLetter) for each in world.settling):
            assert all(each.reason for each in world.settling)
        world.settle()
        if not fate:
            held = list(world.core._ledger)
            assert [each.state for each in held] == ["deferred"], held
            world.core._ledger.drop(held[0], passed=True)
        assert time.process_time() - began < 5
        return (fate or ["held"])[0], outcome

    def close(self) -> None:
        self.end.close()
        self.child.join(20)
        self.theirs.close()
        assert not self.child.is_alive()


@pytest.fixture
def line() -> Iterator[Line]:
    app = Celery("odd", broker=f"memory://{uuid.uuid4().hex}", set_as_current=False)
    app.conf.task_always_eager = False

    @app.task(name="t.add", bind=True)
    def add(self, x=0, y=0):
        assert self.request.get("is_eager") is False
        repr(self.request)
        return x + y

    made = Line(app)
    yield made
    made.close()
    app.close()


def envelope(
    headers: dict[str, Any] | None = None, *, embed: dict[str, Any] | None = None, protocol: int = 2, **rest: Any
) -> dict[str, Any]:
    facts = {"task": "t.add", "id": "i", **(headers or {})}
    body = [[1, 2], {}, embed or {}] if protocol == 2 else {"args": [1, 2], "kwargs": {}, **facts, **(embed or {})}
    return {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "headers": facts if protocol == 2 else {},
        "properties": {"body_encoding": "base64", **rest.pop("properties", {})},
        "content-type": "application/json",
        "content-encoding": "utf-8",
        **rest,
    }


@pytest.fixture
def lines(caplog) -> Iterator[list[str]]:
    """What the worker would write, by the formatter that it uses."""
    written: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(self.format(record))

    handler = Keep()
    handler.setFormatter(ColorFormatter("[%(asctime)s: %(levelname)s/%(processName)s] %(message)s"))
    logging.getLogger("celery").addHandler(handler)
    with caplog.at_level(logging.INFO, "celery"):
        yield written
    logging.getLogger("celery").removeHandler(handler)


def check_lines(lines: list[str]) -> None:
    for text in lines:
        first, *others = text.split("\n")
        assert first.startswith("[20")
        assert all(
            line.startswith((" ", "Traceback", "During", "The above")) or ": " in line or not line for line in others
        )
        assert not any(line.startswith("[") for line in others)
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert len(first) < 5000
        text.encode("utf-8")


@pytest.mark.parametrize("place", [*HEADERS, *(f"properties.{each}" for each in PROPERTIES)])
def test_any_value_in_any_header(line, lines, place):
    name = place.removeprefix("properties.")
    for number, (what, value) in enumerate(ODD.items()):
        for protocol in (2, 1):
            if place == name:
                text = json.dumps(envelope({name: value}, protocol=protocol))
            else:
                text = json.dumps(envelope(protocol=protocol, properties={name: value}))

            fate, outcome = line.take(text, f"m{number}-{protocol}")

            assert fate in ("Ack", "DeadLetter", "Release", "Hop", "held"), (place, what)
            if fate == "Ack" and name != "expires":
                assert outcome is not None, (place, what)
                assert outcome.kind in ("succeeded", "expired"), (place, what, outcome)
    assert line.take(json.dumps(envelope()), "good")[1].kind == "succeeded"
    check_lines(lines)


@pytest.mark.parametrize("place", [*EMBEDDED, *OUTER])
def test_any_value_in_any_part_of_the_envelope(line, lines, place):
    for number, (what, value) in enumerate(ODD.items()):
        for protocol in (2, 1):
            if place in EMBEDDED:
                text = json.dumps(envelope(embed={place: value}, protocol=protocol))
            else:
                text = json.dumps({**envelope(protocol=protocol), place: value})

            fate, outcome = line.take(text, f"m{number}-{protocol}")

            if fate == "Ack":
                assert outcome is not None, (place, what)
                assert outcome.kind == "succeeded", (place, what, outcome)
    assert line.take(json.dumps(envelope()), "good")[1].kind == "succeeded"
    check_lines(lines)


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "t", "t.add.run", "t.*", "*", "", "T.ADD"])
def test_a_name_that_is_no_task_runs_nothing_and_stays(line, name):
    for number, text in enumerate(
        (
            json.dumps(envelope({"task": name})),
            json.dumps(envelope({"task": name}, protocol=1)),
            json.dumps({"task": name, "args": ["true"], "kwargs": {}}),
        )
    ):
        fate, outcome = line.take(text, f"m{number}")

        assert fate == "Release"
        assert outcome is None or outcome.kind == "unknown"


@pytest.mark.timeout(600)
def test_mutated_envelopes_on_the_whole_way(line, lines):
    for seed in range(EXAMPLES):
        dice = random.Random(seed)
        made = envelope(protocol=dice.choice([1, 2]))
        for _ in range(dice.randint(1, 3)):
            made = mutate_value(made, dice)
        text = json.dumps(made)

        fate, outcome = line.take(text, f"m{seed}")

        if fate == "Ack":
            assert outcome is not None, text
            assert outcome.kind == "succeeded", (text, outcome)
    assert line.take(json.dumps(envelope()), "good")[1].kind == "succeeded"
    check_lines(lines)
