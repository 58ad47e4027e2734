"""Canvas as values: how parts join, what they say on the wire, and how many requests they cost."""

from __future__ import annotations

import json
import pickle

import pytest

from pyqs_celery import Celery, chain, chord, group, signature
from pyqs_celery.canvas import StampingVisitor, maybe_signature
from pyqs_celery.exceptions import MessageTooLarge
from pyqs_celery.wire.body import decode_body
from pyqs_celery.wire.envelope import decode_head


@pytest.fixture
def app(sqs, monkeypatch):
    for name, value in sqs.environment.items():
        monkeypatch.setenv(name, value)
    made = Celery("canvas", broker="sqs://", result_backend="cache+memory://canvas", set_as_current=False)

    @made.task(name="add")
    def add(x, y):
        return x + y

    @made.task(name="total")
    def total(values):
        return sum(values)

    yield made
    made.close()


def messages(sqs, queue="celery"):
    return [decode_body(decode_head(body)) for body in sqs.bodies(queue)]


def test_a_group_of_a_thousand_is_a_hundred_requests(app, sqs):
    add = app.tasks["add"]
    add.delay(0, 0)  # the queue is made and known
    sqs.ask("reset")

    result = group(add.s(n, n) for n in range(1000)).apply_async()

    assert sqs.requests() == {"SendMessageBatch": 100}
    assert len(result) == 1000
    assert len(messages(sqs)) == 1001


def test_a_group_on_a_fifo_queue_keeps_its_order(app, sqs):
    sqs.create("orders.fifo", ContentBasedDeduplication="true")
    add = app.tasks["add"]

    group(add.s(n, 0) for n in range(25)).apply_async(queue="orders.fifo", MessageGroupId="g")

    assert [message.args[0] for message in messages(sqs, "orders.fifo")] == list(range(25))


def test_members_that_are_refused_are_told(app, sqs):
    add = app.tasks["add"]
    add.delay(0, 0)
    sent = len(messages(sqs))

    with pytest.raises(MessageTooLarge):
        group(add.s("x" * 1_200_000, n) for n in range(3)).apply_async()

    # everything is checked before anything is sent
    assert len(messages(sqs)) == sent


def test_empty_ones(app, sqs):
    add, total = app.tasks["add"], app.tasks["total"]

    assert chain().apply_async() is None
    assert group().apply_async().results == []
    assert (add.s(1, 1) | group()) == add.s(1, 1)
    chord([], total.s()).apply_async()

    # a chord without members calls its body at once
    [message] = messages(sqs)
    assert (message.task, message.args) == ("total", [[]])


def test_a_chord_without_a_result_back_end_is_refused(sqs):
    app = Celery("none", broker="sqs://", set_as_current=False)
    add = app.task(name="add")(lambda x, y: x + y)

    with pytest.raises(NotImplementedError, match="result_backend"):
        chord([add.s(1, 1)], add.s(1)).apply_async()


def test_an_unregistered_task_is_sent_by_its_name(app, sqs):
    chain(signature("elsewhere.first", args=(1,), app=app), signature("elsewhere.second", app=app)).apply_async()

    [message] = messages(sqs)
    assert (message.task, message.chain[0]["task"]) == ("elsewhere.first", "elsewhere.second")


@pytest.mark.parametrize("copy", [lambda sig: json.loads(json.dumps(sig)), lambda sig: pickle.loads(pickle.dumps(sig))])
def test_round_trips(app, copy):
    add, total = app.tasks["add"], app.tasks["total"]
    whole = chain(add.s(1, 2), group(add.s(1), chord([add.s(2), add.s(3)], total.s())), total.s())

    again = maybe_signature(copy(whole), app=app)

    assert type(again) is type(whole)
    assert json.dumps(again) == json.dumps(whole)


def test_a_chord_inside_a_chord_grows_no_more_than_its_parts(app, sqs):
    """Each member carries its body; a body's own members must not carry theirs as well."""
    add, total = app.tasks["add"], app.tasks["total"]

    def largest(n):
        sqs.wipe()
        app.publisher().close()
        inner = chord([add.si(i, i) for i in range(n)], total.s())
        chord([add.si(1, 1), add.si(2, 2)], inner).apply_async()
        return max(map(len, sqs.bodies("celery")))

    small, large = largest(20), largest(80)
    assert large < small * 4.5


def test_options_of_a_chain_are_its_first_steps(app, sqs):
    add = app.tasks["add"]

    chain(add.s(1, 2), add.s(3)).apply_async(queue="first", link=add.s(9), link_error=add.s(8))

    [message] = messages(sqs, "first")
    assert [sig["args"] for sig in message.errbacks] == [[8]]
    step = message.chain[0]
    assert "queue" not in step["options"]
    assert [sig["args"] for sig in step["options"]["link"]] == [[9]]


def test_a_visitor_stamps_every_part(app, sqs):
    class Visitor(StampingVisitor):
        def on_signature(self, sig, **headers):
            return {"tenant": "a", "stamped_headers": ["tenant"]}

    add, total = app.tasks["add"], app.tasks["total"]
    whole = chord([add.s(1, 1), add.s(2, 2)], total.s())
    whole.stamp(Visitor())
    whole.apply_async()

    found = messages(sqs)
    assert [message.stamps for message in found] == [{"tenant": "a"}, {"tenant": "a"}]
    assert found[0].chord["options"]["stamped_headers"] == ["tenant"]


def test_immutable_partial_and_clone(app):
    add = app.tasks["add"]

    assert add.s(2).clone((1,)).args == (1, 2)
    assert add.si(1, 2).clone((9,)).args == (1, 2)
    one = add.s(1, 2).set(queue="a")
    other = one.clone(queue="b")
    assert (one.options["queue"], other.options["queue"]) == ("a", "b")
    assert one.on_error(add.s(1)).options["link_error"] == [add.s(1)]


def test_a_group_takes_no_link(app):
    add = app.tasks["add"]

    with pytest.raises(TypeError, match="use a chord"):
        group(add.s(1, 1)).apply_async(link=add.s(1))


def test_chunks_of_nothing_are_refused(app):
    with pytest.raises(ValueError, match="one item at least"):
        app.tasks["add"].chunks([(1, 1)], 0).apply_async()
