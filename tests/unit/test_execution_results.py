"""What a run leaves in the store and sends on: failures once they are final, values nobody can write, outages."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyqs_celery import Celery, chain, chord, states
from pyqs_celery.app.builtins import look_again_after
from pyqs_celery.backends.memory import MemoryBackend
from pyqs_celery.exceptions import BackendStoreError, ChordError, Ignore, Reject, TimeLimitExceeded
from pyqs_celery.execution import execute, record_failure
from pyqs_celery.wire.body import decode_body
from pyqs_celery.wire.envelope import decode_head


class Unreachable(MemoryBackend):
    """A store that is down."""

    def set(self, key, value):
        raise BackendStoreError("it is down")


class Sent(list):
    """What the app has sent, as messages."""

    def take(self):
        return decode_body(decode_head(self.pop(0).body))


@pytest.fixture
def app(tmp_path: Path):
    made = Celery("run", broker="memory://", result_backend=f"cache+memory://{tmp_path.name}", set_as_current=False)

    @made.task(name="fail")
    def fail(*args):
        raise KeyError("bad")

    @made.task(name="add")
    def add(x, y):
        return x + y

    @made.task(name="total")
    def total(values):
        return sum(values)

    @made.task(name="odd")
    def odd():
        return object()

    @made.task(name="mourn")
    def mourn(task_id):
        return task_id

    @made.task(name="ignore")
    def ignore():
        raise Ignore

    @made.task(name="reject")
    def reject():
        raise Reject("no", requeue=False)

    return made


@pytest.fixture
def sent(app):
    found = Sent()
    publisher = app.publisher()
    publisher.send = lambda outgoing, **budget: found.append(outgoing)
    return found


def run(app, message, *, last=True, **sqs):
    return execute(app, message, sqs={"message_id": "m", **sqs}, hostname="h", last_delivery=last)


def test_a_failure_that_comes_again_is_stored_but_not_spread(app, sent):
    result = chain(app.signature("fail", args=(1,)), app.signature("add", args=(1,))).apply_async(
        link_error=app.signature("mourn")
    )

    outcome = run(app, sent.take(), last=False)

    assert outcome.kind == "failed"
    assert (result.parent.state, result.state) == (states.FAILURE, states.PENDING)
    assert sent == []


def test_a_failure_for_good_fails_the_steps_after_it_and_calls_errbacks(app, sent):
    result = chain(app.signature("fail", args=(1,)), app.signature("add", args=(1,))).apply_async(
        link_error=app.signature("mourn")
    )

    run(app, sent.take())

    assert (result.parent.state, result.state) == (states.FAILURE, states.FAILURE)
    assert isinstance(result.result, KeyError)
    assert sent.take().args == [result.parent.id]


def test_a_value_that_cannot_be_written_is_a_failure(app, sent):
    result = app.tasks["odd"].delay()

    outcome = run(app, sent.take())

    assert (outcome.kind, outcome.exception) == ("failed", "EncodeError")
    assert result.state == states.FAILURE


def test_a_store_that_is_down_gives_the_message_back(app, sent):
    app.tasks["add"].delay(1, 1)
    app.tasks["add"].backend = Unreachable(app)

    outcome = run(app, sent.take())

    assert (outcome.kind, outcome.requeue) == ("rejected", True)


def test_a_rejection_for_good_is_a_failure_to_those_who_wait(app, sent):
    result = app.tasks["reject"].delay()

    assert run(app, sent.take()).kind == "rejected"

    assert result.state == states.FAILURE


def test_a_retry_is_stored_before_it_can_be_run_by_another(app, sent):
    @app.task(name="again", bind=True, max_retries=3)
    def again(self):
        if self.request.retries == 0:
            raise self.retry(exc=KeyError("k"), countdown=0)
        return "done"

    result = again.delay()
    # given a worker so quick that the new message is run before the first run has ended
    publish = app.publisher().send
    app.publisher().send = lambda outgoing, **budget: (publish(outgoing), run(app, sent.take()))

    outcome = run(app, sent.take())

    assert outcome.kind == "retried"
    assert (result.state, result.get()) == (states.SUCCESS, "done")


def test_what_is_ignored_stays_as_it_was(app, sent):
    result = app.tasks["ignore"].delay()

    run(app, sent.take())

    assert result.state == states.PENDING


def test_a_success_is_not_undone_by_a_later_delivery(app, sent):
    result = app.tasks["add"].delay(1, 1)
    run(app, sent.take())

    app.backend.store_result(result.id, ValueError("late"), states.FAILURE)

    assert app.AsyncResult(result.id).get() == 2


def test_a_member_that_was_killed_for_good_fails_its_chord(app, sent):
    add, total = app.tasks["add"], app.tasks["total"]
    body = total.s().on_error(app.signature("mourn"))
    result = chord([add.s(1, 1), add.s(2, 2)], body).apply_async()
    run(app, sent.take())

    killed = sent.take()
    outcome = record_failure(app, killed, sqs={"message_id": "m"}, hostname="h", exc=TimeLimitExceeded(1))

    assert (outcome.kind, outcome.exception) == ("failed", "TimeLimitExceeded")
    assert isinstance(result.result, ChordError)
    assert killed.id in str(result.result)
    assert sent.take().task == "mourn"


def test_a_chord_calls_its_body_once_whatever_its_members_do_again(app, sent):
    add, total = app.tasks["add"], app.tasks["total"]
    result = chord([add.s(n, n) for n in range(3)], total.s()).apply_async()
    members = [sent.take() for _ in range(3)]

    for member in (*members, *members[::-1]):
        run(app, member, receive_count=2)

    body = sent.take()
    assert (body.task, body.args, body.id) == ("total", [[0, 2, 4]], result.id)
    assert sent == []


def test_members_of_a_chord_that_ignore_their_results_have_them_joined_all_the_same(app, sent):
    add, total = app.tasks["add"], app.tasks["total"]
    chord([add.s(n, n).set(ignore_result=True) for n in range(3)], total.s()).apply_async()

    for _ in range(3):
        run(app, sent.take())

    assert sent.take().args == [[0, 2, 4]]


def test_a_chord_of_ten_minutes_is_looked_at_twenty_times_at_most():
    looks, at = 1, 1.0  # the first comes a second after the chord
    while at < 600:
        at += look_again_after(looks - 1, 1.0)
        looks += 1

    assert looks <= 20


def test_a_chord_that_is_looked_after_waits_longer_each_time(app, sent):
    group_id, member = "g", app.AsyncResult("never")
    unlock = app.tasks["celery.chord_unlock"]
    unlock.apply_async((group_id, app.tasks["total"].s()), {"result": [member.as_tuple()]}, retries=9)

    outcome = run(app, sent.take())

    again = sent[0]
    assert outcome.kind == "retried"
    assert 36 <= again.delay_seconds <= 39
    assert decode_body(decode_head(again.body)).retries == 10


def test_a_chord_that_is_looked_after_calls_its_body_once(app, sent):
    app.backend.store_result("one", 1, states.SUCCESS)
    body = app.tasks["total"].s()
    app.tasks["celery.chord_unlock"].apply_async(("g", body), {"result": [app.AsyncResult("one").as_tuple()]})
    message = sent.take()

    for _ in range(2):
        assert run(app, message).kind == "succeeded"

    assert [decode_body(decode_head(each.body)).args for each in sent] == [[[1]]]


def test_a_member_of_a_chord_stays_on_the_queue_where_no_results_are_kept(app, sent):
    chord([app.tasks["add"].s(1, 1)], app.tasks["total"].s()).apply_async()
    app.conf.result_backend = None

    outcome = run(app, sent.take())

    assert outcome.kind == "unsupported"
    assert "result_backend" in outcome.reason


def test_deduplication_is_on_request(app, sent):
    app.conf.worker_deduplicate_successful_tasks = True
    app.tasks["add"].delay(1, 1)
    message = sent.take()
    run(app, message)
    ran = []
    app.tasks["add"].run = lambda *args: ran.append(args)

    outcome = run(app, message, receive_count=2)

    assert (outcome.kind, ran) == ("succeeded", [])
