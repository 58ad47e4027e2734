"""Chords in Redis: Celery's keys, each member once, the body once, whoever dies meanwhile."""

from __future__ import annotations

import contextlib
import gc
import json
import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from pyqs_celery import Celery, states, wire
from pyqs_celery.backends.redis import RedisBackend
from pyqs_celery.exceptions import BackendStoreError
from tests.stores.contract import BODIES, Chord, new_id
from tests.support.embedded import EmbeddedSqs
from tests.support.servers import RedisServer

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def url(redis_server: RedisServer) -> str:
    return redis_server.empty()


@pytest.fixture
def make_app(url: str) -> Iterator[Callable[..., Any]]:
    apps = []
    broker = f"memory://{new_id()}"

    def make(**changes: Any) -> Any:
        apps.append(Celery("proj", broker=broker, set_as_current=False, **{"result_backend": url, **changes}))
        return apps[-1]

    yield make
    for app in apps:
        app.close()


@pytest.fixture
def app(make_app: Callable[..., Any]) -> Any:
    return make_app()


class Keys:
    """What Redis holds of a chord."""

    def __init__(self, chord: Chord) -> None:
        self.client = chord.app.backend.client
        self.name = f"celery-taskset-meta-{chord.group_id}"

    def __getattr__(self, suffix: str) -> str:
        return f"{self.name}.{suffix}"

    def there(self) -> list[str]:
        return sorted(key.decode().removeprefix(self.name) for key in self.client.keys(f"{self.name}*"))


def test_keys_are_those_of_celery(app):
    chord = Chord(app, 3).begin()
    keys = Keys(chord)

    chord.report(2, "c")
    chord.report(0, ValueError("a"))

    client, (first, _, third) = keys.client, chord.members
    error = {"exc_type": "ValueError", "exc_message": ["a"], "exc_module": "builtins"}
    found = [(json.loads(value), score) for value, score in client.zrange(keys.j, 0, -1, withscores=True)]
    assert found == [([1, first, "FAILURE", error], 0.0), ([1, third, "SUCCESS", "c"], 2.0)]
    assert client.get(keys.s) == b"3"
    assert client.smembers(keys.d) == {f"{first}:0".encode(), f"{third}:2".encode()}
    assert keys.there() == [".d", ".j", ".s"]
    assert all(86_000 < client.ttl(key) <= 86_400 for key in (keys.j, keys.s, keys.d))


def test_of_a_chord_that_is_done_only_that_is_kept(app):
    chord = Chord(app, 2).begin()
    keys = Keys(chord)

    chord.report(0)
    chord.report(1)

    assert keys.there() == [".c"]
    assert keys.client.get(keys.c) == b"done"
    assert keys.client.ttl(keys.c) >= 300


def test_keys_may_be_kept_for_another_time_or_for_ever(make_app):
    for settings, least, most in (({"result_chord_expires": 60}, 55, 60), ({"result_expires": 0}, -1, -1)):
        chord = Chord(make_app(**settings), 2).begin()
        keys = Keys(chord)

        chord.report(0)

        assert all(least <= keys.client.ttl(key) <= most for key in (keys.j, keys.s, keys.d))


def test_members_of_celery_5_6_are_counted_and_not_again(app):
    """They are added to .j alone, and their message may come to us a second time."""
    chord = Chord(app, 3).begin()
    keys = Keys(chord)
    old = json.dumps([1, chord.members[1], "SUCCESS", "of 5.6"])
    keys.client.zadd(keys.j, {old: 1})

    chord.report(1, "of ours")
    chord.report(0)
    before = chord.bodies()
    chord.report(2)

    assert before == []
    assert chord.bodies() == [[[0, "of 5.6", 2]]]


def test_a_member_of_a_chord_whose_size_is_not_known_is_counted_only(app):
    chord = Chord(app, 2)

    chord.report(0)
    chord.report(1)

    assert chord.bodies() == []
    keys = Keys(chord)
    assert keys.client.zcard(keys.j) == 2


def test_unordered_chords_are_lists(make_app):
    app = make_app(result_backend_transport_options={"result_chord_ordered": False})
    chord = Chord(app, 3).begin()
    keys = Keys(chord)

    chord.report(2)
    chord.report(2)
    kind = keys.client.type(keys.j)
    chord.report(0)
    chord.report(1)

    assert kind == b"list"
    assert chord.bodies() == [[[2, 0, 1]]]


def test_prefixes_stand_before_all_keys(make_app):
    app = make_app(result_backend_transport_options={"global_keyprefix": "shop"})
    chord = Chord(app, 2).begin()

    chord.report(0)
    names = {key.decode() for key in app.backend.client.keys("*")}
    chord.report(1)

    group, member = f"shop_celery-taskset-meta-{chord.group_id}", f"shop_celery-task-meta-{chord.members[0]}"
    assert names == {f"{group}.j", f"{group}.d", f"{group}.s", member}
    assert chord.bodies() == [[[0, 1]]]


def test_members_can_be_added_on_the_way(app):
    chord = Chord(app, 1).begin()
    chord.app.backend.add_to_chord(chord.group_id, app.AsyncResult(new_id()))
    chord.members.append(new_id())

    chord.report(0)
    before = chord.bodies()
    chord.report(1)

    assert before == []
    assert chord.bodies() == [[[0, 1]]]


def test_the_values_of_groups_in_a_header_are_lists(app):
    chord = Chord(app, 3)
    inner = app.GroupResult(new_id(), [app.AsyncResult(task_id) for task_id in chord.members[1:]])
    header = [app.AsyncResult(chord.members[0]), inner]

    app.backend.apply_chord((chord.group_id, header), app.signature(chord.body))
    app.backend.set_chord_size(chord.group_id, 3)
    for index in (2, 1, 0):
        chord.report(index)

    assert chord.bodies() == [[[0, [1, 2]]]]


def test_a_failure_in_a_group_of_a_header_is_told(app):
    chord = Chord(app, 2)
    inner = app.GroupResult(new_id(), [app.AsyncResult(chord.members[1])])

    app.backend.apply_chord((chord.group_id, [app.AsyncResult(chord.members[0]), inner]), app.signature(chord.body))
    app.backend.set_chord_size(chord.group_id, 2)
    chord.report(1, ValueError("in the group"))
    chord.report(0)

    body = app.AsyncResult(chord.body_id)
    assert body.state == states.FAILURE
    assert "raised ValueError('in the group')" in str(body.result)


def test_compressed_values_reach_the_body(make_app):
    chord = Chord(make_app(result_compression="gzip"), 2).begin()

    chord.report(0, "x" * 1000)
    chord.report(1)

    assert chord.bodies() == [[["x" * 1000, 1]]]


def test_who_takes_over_does_not_call_a_body_that_runs_already(app):
    chord = Chord(app, 2).begin()
    keys = Keys(chord)
    chord.report(0)
    keys.client.set(keys.c, "a worker that died after sending the body", px=50)
    app.backend.store_result(chord.body_id, {"pid": 1}, states.STARTED)

    chord.report(1)

    assert chord.bodies() == []
    assert keys.client.get(keys.c) == b"done"


class Slow(RedisBackend):
    """So slow after it has won a chord that another worker takes over."""

    def _report(self, request: Any, state: str, result: Any) -> Callable[[str, int], tuple[str, bool]]:
        report = super()._report(request, state, result)

        def slow(token: str, seconds: int) -> tuple[str, bool]:
            answer = report(token, seconds)
            self.client.set(self.get_key_for_group(request.group, ".c"), "another")
            return answer

        return slow


def test_who_has_lost_the_claim_sends_nothing(make_app, url):
    app = make_app(redis_port=urlsplit(url).port, result_backend=Slow)
    chord = Chord(app, 1).begin()
    keys = Keys(chord)

    with pytest.raises(BackendStoreError, match="another worker"):
        chord.report(0)

    assert chord.bodies() == []
    assert keys.client.get(keys.c) == b"another"


class Unreachable(RedisBackend):
    """Redis is gone after the chord was won."""

    def _restore_group(self, group_id: str) -> Any:
        raise ConnectionError("Redis is gone")


def test_an_outage_while_values_are_read_does_not_fail_the_body(app, make_app, url):
    options = {"retry_policy": {"timeout": 0.1}}
    gone = make_app(redis_port=urlsplit(url).port, result_backend=Unreachable, result_backend_transport_options=options)
    chord = Chord(app, 2).begin()
    chord.report(0)

    with pytest.raises(BackendStoreError, match="Redis is gone"):
        chord.report(1, app=gone)
    before = chord.bodies(), app.AsyncResult(chord.body_id).state
    chord.report(1)

    assert before == ([], states.PENDING)
    assert chord.bodies() == [[[0, 1]]]


# -- processes that are killed ---------------------------------------------------------------------


class Mortal(RedisBackend):
    """A back end whose process is killed before or after a call to Redis: after ``lives`` of such steps."""

    lives = -1
    steps = 0
    sent_at: int | None = None

    def step(self) -> None:
        self.steps += 1
        if self.lives == self.steps:
            os.kill(os.getpid(), signal.SIGKILL)

    def _run(self, command: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.step()
        try:
            return super()._run(command, *args, **kwargs)
        finally:
            self.step()


class MortalApp(Celery):
    """Sends bodies to the embedded SQS, and remembers at which step."""

    def send_task(self, *args: Any, **kwargs: Any) -> Any:
        self.backend.step()
        answer = super().send_task(*args, **kwargs)
        self.backend.sent_at = self.backend.steps
        return answer


class Fleet:
    """Processes that report members of chords, each a fork that may be killed."""

    def __init__(self, sqs: EmbeddedSqs, url: str) -> None:
        self.sqs = sqs
        self.url = url
        self.empty()

    def empty(self) -> None:
        self.sqs.wipe()
        self.sqs.create(BODIES)

    def app(self) -> MortalApp:
        place = urlsplit(self.sqs.endpoint)
        options = {
            "region": "us-east-1",
            "is_secure": False,
            "predefined_queues": {BODIES: {"url": self.sqs.url(BODIES)}},
        }
        broker = f"sqs://test:test@{place.hostname}:{place.port}//"
        return MortalApp(
            "proj",
            broker=broker,
            backend=Mortal,
            set_as_current=False,
            broker_transport_options=options,
            redis_host="127.0.0.1",
            redis_port=urlsplit(self.url).port,
        )

    def start(self, chord: Chord, indexes: Iterable[int], lives: int = -1, *, spare_after_sending: bool = False) -> Any:
        """Report these members in a process that dies at its step number ``lives``."""
        ours, theirs = FORK.Pipe(duplex=False)
        process = FORK.Process(target=self._work, args=(chord, list(indexes), lives, spare_after_sending, theirs))
        process.start()
        theirs.close()
        return process, ours

    def _work(self, chord: Chord, indexes: list[int], lives: int, spare: bool, done: Any) -> None:
        gc.disable()  # a look at all that the parent holds would copy it
        app = self.app()
        backend = app.backend
        backend.lives = lives
        for index in indexes:
            chord.report(index, app=app)
            if spare and backend.sent_at is not None:
                backend.lives = -1
            done.send((index, backend.steps, backend.sent_at))
        os._exit(0)

    def end(self, process: Any, done: Any) -> tuple[set[int], int, int | None]:
        """What it reported before its end, its steps, and after which the body was sent."""
        process.join(60)
        assert process.exitcode in (0, -signal.SIGKILL)
        told = []
        with contextlib.suppress(EOFError):
            while True:
                told.append(done.recv())
        done.close()
        process.close()
        steps, sent_at = (told[-1][1:]) if told else (0, None)
        return {index for index, _, _ in told}, steps, sent_at

    def deliver(self, chord: Chord, seed: int, most_lives: int) -> tuple[set[int], int]:
        """Deliver members one to three times, in any order, to processes of which most are killed; what they had comes again.

        Gives what was reported, and how many were killed on their way.
        """
        dice = random.Random(seed)
        deliveries = [index for index in range(len(chord.members)) for _ in range(dice.randint(1, 3))]
        dice.shuffle(deliveries)
        deaths = 0
        acknowledged: set[int] = set()
        while deliveries:
            workers = []
            for _ in range(4):
                batch, deliveries = deliveries[:40], deliveries[40:]
                lives = dice.randint(1, most_lives) if dice.random() < 0.6 else -1
                workers.append((batch, *self.start(chord, batch, lives, spare_after_sending=True)))
            for batch, process, done in workers:
                reported, *_ = self.end(process, done)
                acknowledged |= reported
                lost = [index for index in batch if index not in reported]
                deaths += bool(lost)
                deliveries += lost
        return acknowledged, deaths

    def bodies(self) -> list[Any]:
        return [
            wire.decode({"Body": body, "MessageId": "m", "ReceiptHandle": "r"}).args for body in self.sqs.bodies(BODIES)
        ]


@pytest.fixture
def fleet(sqs: EmbeddedSqs, url: str) -> Fleet:
    return Fleet(sqs, url)


def test_a_member_may_be_killed_at_any_step(fleet, app):
    """Whatever the step, the member's message comes again and the body is called, once.

    Only between the sending and the mark it is called again, with the same id, unless it has begun: a chord that never
    ends would be worse.
    """
    _, steps, sent_at = fleet.end(*fleet.start(Chord(app, 2).begin(), [0, 1]))
    assert len(fleet.bodies()) == 1
    half = fleet.end(*fleet.start(Chord(app, 2).begin(), [0]))[1]
    assert sent_at is not None
    assert half < sent_at < steps

    for lives in range(half + 1, steps + 1):
        fleet.empty()
        chord = Chord(app, 2).begin()
        keys = Keys(chord)
        reported, *_ = fleet.end(*fleet.start(chord, [0, 1], lives))
        assert reported == {0}
        # the time of the claim is over
        if keys.client.get(keys.c) not in (None, b"done"):
            keys.client.delete(keys.c)

        fleet.end(*fleet.start(chord, [1]))

        expected = 2 if sent_at < lives <= steps - 1 else 1
        assert fleet.bodies() == [[[0, 1]]] * expected, f"killed at step {lives} of {steps}, sent after {sent_at}"


def test_five_hundred_members_that_report_up_to_three_times_and_are_killed(fleet, app):
    chord = Chord(app, 500).begin()

    acknowledged, deaths = fleet.deliver(chord, seed=8, most_lives=400)

    assert acknowledged == set(range(500))
    assert deaths > 5
    assert fleet.bodies() == [[list(range(500))]]
