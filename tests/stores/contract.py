"""What every result back end does, whatever it keeps results in.

``class TestRedis(StoreContract)`` gives the fixture ``settings`` (those of an empty store) and says where it differs.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pyqs_celery import Celery, states, wire
from pyqs_celery.app.request import Context
from pyqs_celery.backends.keyvalue import KeyValueStoreBackend
from pyqs_celery.exceptions import (
    BackendGetMetaError,
    BackendStoreError,
    ChordError,
    OperationalError,
    TaskRevokedError,
)
from pyqs_celery.exceptions import TimeoutError as ResultTimeout
from pyqs_celery.local.client import shared_client

GARBAGE = [
    b"\xff\xfe no text",
    b"no json",
    b"[1, 2]",
    b'{"status": 3}',
    b'{"result": 1}',
    b"\x00celery-compressed\x00x",
]
BODIES = "bodies"


class CustomError(Exception):
    """An exception of an application, with arguments of its own."""


class Unserialisable:
    def __repr__(self) -> str:
        return "<no json>"


class WithoutBroker(Celery):
    """An application whose queues cannot be reached."""

    def send_task(self, *args: Any, **kwargs: Any) -> Any:
        raise OperationalError("SQS does not answer")


class Chord:
    """A chord of ``size`` members on a store, and the messages of its body."""

    def __init__(self, app: Any, size: int, **body_fields: Any) -> None:
        self.app = app
        self.group_id = new_id()
        self.members = [new_id() for _ in range(size)]
        self.body_id = new_id()
        options = {"task_id": self.body_id, "queue": BODIES}
        self.body = {"task": "proj.body", "args": [], "kwargs": {}, "options": options, "subtask_type": None}
        self.body |= {"immutable": False, **body_fields}

    def begin(self) -> Chord:
        """What the producer of a chord does before it sends the header."""
        backend = self.app.backend
        results = [self.app.AsyncResult(member) for member in self.members]
        backend.apply_chord((self.group_id, results), self.app.signature(dict(self.body)))
        backend.set_chord_size(self.group_id, len(self.members))
        return self

    def request(self, index: int) -> Context:
        member = self.members[index]
        return Context(id=member, task="proj.member", group=self.group_id, group_index=index, chord=dict(self.body))

    def report(self, index: int, value: Any = None, app: Any = None) -> None:
        """What a worker does at the end of a member; its value is its place unless another is given."""
        backend, request = (app or self.app).backend, self.request(index)
        if isinstance(value, BaseException):
            backend.mark_as_failure(request.id, value, request=request)
        else:
            backend.mark_as_done(request.id, index if value is None else value, request=request)

    def bodies(self) -> list[Any]:
        """The arguments of each body that was sent."""
        client = shared_client(self.app.conf.broker_url.removeprefix("memory://"))
        if not client.list_queues(QueueNamePrefix=BODIES).get("QueueUrls"):
            return []
        url = client.get_queue_url(QueueName=BODIES)["QueueUrl"]
        found = []
        while messages := client.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["All"], MessageAttributeNames=["All"]
        ).get("Messages"):
            found += [wire.decode(message, accept_content=("json", "pickle")).args for message in messages]
        return found


def new_id() -> str:
    return str(uuid.uuid4())


class StoreContract:
    """Tests of one store."""

    keeps_relations = True
    """The ids of a task's group and parent are kept."""
    compresses = True
    """``result_compression`` is heeded."""
    counts_chords = True
    """The store counts a chord's members; otherwise ``celery.chord_unlock`` looks after them."""
    counts_once = True
    """... each member once, however often it reports."""

    # -- what a subclass gives ---------------------------------------------------------------------

    @pytest.fixture
    def settings(self) -> dict[str, Any]:
        raise NotImplementedError("the settings of an empty store")

    def spoil(self, backend: Any, task_id: str, garbage: bytes) -> None:
        """Put something that is no document in the place of a task's."""
        assert isinstance(backend, KeyValueStoreBackend), "say how"
        backend.set(backend.get_key_for_task(task_id), garbage)

    def seconds_left(self, backend: Any, task_id: str) -> float | None:
        """For how long the store keeps a task's document; None for ever."""
        pytest.skip("the store does not tell")

    def claim_for_another(self, backend: Any, group_id: str, seconds: int) -> None:
        """Another worker completes a chord, and may be dead."""
        assert backend.claim_chord(group_id, "another-worker", seconds) == "won"

    # -- fixtures ----------------------------------------------------------------------------------

    @pytest.fixture
    def make_app(self, settings: dict[str, Any]) -> Iterator[Callable[..., Any]]:
        """``make_app(result_expires=5)``: all on one store and one broker."""
        apps: list[Any] = []
        broker = f"memory://{uuid.uuid4().hex}"

        def make(cls: Any = Celery, **changes: Any) -> Any:
            app = cls("proj", broker=broker, set_as_current=False, **{**settings, **changes})
            apps.append(app)
            return app

        yield make
        for app in apps:
            app.close()

    @pytest.fixture
    def app(self, make_app: Callable[..., Any]) -> Any:
        return make_app()

    @pytest.fixture
    def backend(self, app: Any) -> Any:
        return app.backend

    # -- one result --------------------------------------------------------------------------------

    def test_an_unknown_id_is_pending(self, app, backend):
        result = app.AsyncResult(new_id())

        assert (result.state, result.result, result.ready()) == (states.PENDING, None, False)
        assert not backend.task_result_exists(result.id)

    @pytest.mark.parametrize("value", [None, 0, "", "é 漢字 \x00", 1.5, [1, [2]], {"a": {"b": None}}, "x" * 100_000])
    def test_a_value_comes_back(self, app, backend, value):
        task_id = new_id()

        backend.store_result(task_id, value, states.SUCCESS)

        result = app.AsyncResult(task_id)
        assert (result.state, result.result, result.traceback) == (states.SUCCESS, value, None)
        assert result.get(timeout=5) == value
        assert backend.task_result_exists(task_id)

    def test_another_process_of_the_application_reads_it(self, make_app):
        task_id = new_id()
        make_app().backend.store_result(task_id, {"a": 1}, states.SUCCESS)

        meta = make_app().backend.get_task_meta(task_id)

        assert (meta["status"], meta["result"], meta["task_id"]) == ("SUCCESS", {"a": 1}, task_id)

    def test_a_document_has_its_date(self, app, backend):
        before = app.now()
        task_id = new_id()

        backend.store_result(task_id, 1, states.SUCCESS)

        assert before <= app.AsyncResult(task_id).date_done <= app.now()

    def test_children_and_relations_are_kept(self, app, backend):
        task_id, child, group_id, parent = (new_id() for _ in range(4))
        request = Context(id=task_id, group=group_id, parent_id=parent)
        request.children.append(app.AsyncResult(child))

        backend.mark_as_done(task_id, 1, request=request)

        meta = backend.get_task_meta(task_id)
        assert app.AsyncResult(task_id).children == [app.AsyncResult(child)]
        if self.keeps_relations:
            assert (meta["group_id"], meta["parent_id"]) == (group_id, parent)

    def test_extended_documents_tell_of_the_call(self, make_app):
        app = make_app(result_extended=True)
        task_id = new_id()
        request = Context(
            id=task_id,
            task="proj.add",
            args=[1, "zwei"],
            kwargs={"z": None},
            hostname="w1@host",
            retries=2,
            delivery_info={"routing_key": "emails"},
        )

        app.backend.mark_as_done(task_id, 3, request=request)

        result = app.AsyncResult(task_id)
        assert (result.name, list(result.args), result.kwargs) == ("proj.add", [1, "zwei"], {"z": None})
        assert (result.worker, result.retries, result.queue) == ("w1@host", 2, "emails")

    def test_a_forgotten_result_is_pending_and_forgetting_twice_is_no_error(self, app, backend):
        task_id = new_id()
        backend.store_result(task_id, 1, states.SUCCESS)

        app.AsyncResult(task_id).forget()
        app.AsyncResult(task_id).forget()

        assert app.AsyncResult(task_id).state == states.PENDING

    def test_results_are_kept_for_as_long_as_the_setting_says(self, make_app):
        backend = make_app(result_expires=1000).backend
        task_id = new_id()

        backend.store_result(task_id, 1, states.SUCCESS)

        assert 900 < (self.seconds_left(backend, task_id) or 0) <= 1000

    @pytest.mark.parametrize("never", [0, None])
    def test_results_may_be_kept_for_ever(self, make_app, never):
        app = make_app()
        app.conf.result_expires = never
        task_id = new_id()

        app.backend.store_result(task_id, 1, states.SUCCESS)

        assert self.seconds_left(app.backend, task_id) is None

    @pytest.mark.parametrize("serializer", ["pickle", "yaml", "msgpack"])
    def test_other_serializers(self, make_app, serializer):
        app = make_app(result_serializer=serializer, accept_content=[serializer])
        task_id, failed = new_id(), new_id()
        value = {"bytes": b"\x00\xff"} if serializer == "pickle" else {"a": [1, None]}

        app.backend.store_result(task_id, value, states.SUCCESS)
        app.backend.store_result(failed, CustomError("a", 1), states.FAILURE)

        assert app.AsyncResult(task_id).get(timeout=5) == value
        with pytest.raises(CustomError, match="a"):
            app.AsyncResult(failed).get(timeout=5)

    def test_compressed_documents_are_read_with_and_without_the_setting(self, make_app):
        if not self.compresses:
            pytest.skip("the store does not compress")
        task_id, later = new_id(), new_id()
        make_app(result_compression="gzip").backend.store_result(task_id, "x" * 1000, states.SUCCESS)
        make_app().backend.store_result(later, "y", states.SUCCESS)

        assert make_app().AsyncResult(task_id).get(timeout=5) == "x" * 1000
        assert make_app(result_compression="gzip").AsyncResult(later).get(timeout=5) == "y"

    def test_a_back_end_is_pickled_as_the_one_of_the_current_app(self, app, backend):
        made, (cls, args, kwargs) = backend.__reduce__()

        assert type(backend) is cls
        assert callable(made)
        again = cls(*args, app=app, **kwargs)
        assert again.as_uri(include_password=True) == backend.as_uri(include_password=True)

    # -- states ------------------------------------------------------------------------------------

    @pytest.mark.parametrize("later", [states.FAILURE, states.RETRY, states.STARTED, states.REVOKED])
    def test_a_success_stays(self, app, backend, later):
        task_id = new_id()
        backend.store_result(task_id, 1, states.SUCCESS)

        backend.store_result(task_id, {"pid": 1} if later == states.STARTED else ValueError("late"), later)

        result = app.AsyncResult(task_id)
        assert (result.state, result.result) == (states.SUCCESS, 1)

    def test_anything_else_is_replaced(self, app, backend):
        task_id = new_id()
        seen = []

        backend.mark_as_started(task_id, pid=7, hostname="w1@host")
        seen.append((app.AsyncResult(task_id).state, app.AsyncResult(task_id).info))
        backend.mark_as_retry(task_id, ValueError("again"))
        seen.append((app.AsyncResult(task_id).state, app.AsyncResult(task_id).info.args))
        backend.mark_as_failure(task_id, KeyError("k"), traceback="Traceback ...")
        seen.append((app.AsyncResult(task_id).state, app.AsyncResult(task_id).traceback))
        backend.mark_as_done(task_id, 4)
        seen.append((app.AsyncResult(task_id).state, app.AsyncResult(task_id).traceback))

        assert seen == [
            (states.STARTED, {"pid": 7, "hostname": "w1@host"}),
            (states.RETRY, ("again",)),
            (states.FAILURE, "Traceback ..."),
            (states.SUCCESS, None),
        ]

    def test_states_of_an_application_are_kept(self, app, backend):
        task_id = new_id()

        backend.store_result(task_id, {"done": 3}, "PROGRESS")

        assert (app.AsyncResult(task_id).state, app.AsyncResult(task_id).info) == ("PROGRESS", {"done": 3})

    # -- exceptions --------------------------------------------------------------------------------

    @pytest.mark.parametrize("error", [ValueError("bad", 3), KeyError("k"), CustomError(1, "two"), ZeroDivisionError()])
    def test_an_exception_comes_back_as_what_it_was(self, app, backend, error):
        task_id = new_id()

        backend.store_result(task_id, error, states.FAILURE, traceback="Traceback ...")

        result = app.AsyncResult(task_id)
        assert (type(result.result), result.result.args) == (type(error), error.args)
        assert (result.state, result.traceback) == (states.FAILURE, "Traceback ...")
        with pytest.raises(type(error)):
            result.get(timeout=5)

    def test_arguments_that_cannot_be_stored_are_their_repr(self, app, backend):
        task_id = new_id()

        backend.store_result(task_id, ValueError("a", Unserialisable()), states.FAILURE)

        assert app.AsyncResult(task_id).result.args == ("a", "<no json>")

    def test_a_class_that_is_not_known_here_keeps_its_name(self, app, backend):
        strange = type("StrangeError", (Exception,), {"__module__": "a_module_of_elsewhere"})
        task_id = new_id()

        backend.store_result(task_id, strange("x", 1), states.FAILURE)

        error = app.AsyncResult(task_id).result
        assert isinstance(error, Exception)
        assert (type(error).__name__, error.args) == ("StrangeError", ("x", 1))

    def test_a_revoked_task_raises(self, app, backend):
        task_id = new_id()

        backend.mark_as_revoked(task_id, "terminated")

        assert app.AsyncResult(task_id).state == states.REVOKED
        with pytest.raises(TaskRevokedError, match="terminated"):
            app.AsyncResult(task_id).get(timeout=5)

    # -- what is no document -----------------------------------------------------------------------

    @pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
    def test_garbage_is_an_error_with_the_tasks_id(self, app, backend, garbage):
        task_id = new_id()
        self.spoil(backend, task_id, garbage)

        with pytest.raises(BackendGetMetaError) as caught:
            _ = app.AsyncResult(task_id).state

        assert task_id in str(caught.value)

    @pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
    def test_garbage_is_replaced(self, app, backend, garbage):
        task_id = new_id()
        self.spoil(backend, task_id, garbage)

        backend.store_result(task_id, 1, states.SUCCESS)

        assert app.AsyncResult(task_id).get(timeout=5) == 1

    # -- waiting -----------------------------------------------------------------------------------

    def test_get_waits_for_the_end(self, app, make_app):
        task_id = new_id()
        waits = threading.Event()

        def work() -> None:
            backend = make_app().backend
            waits.wait(30)
            backend.store_result(task_id, None, states.STARTED)
            backend.store_result(task_id, "done", states.SUCCESS)

        worker = threading.Thread(target=work)
        worker.start()
        try:
            assert app.AsyncResult(task_id).get(timeout=30, interval=0.05, on_interval=waits.set) == "done"
        finally:
            waits.set()
            worker.join()

    def test_get_gives_up_in_time(self, app):
        with pytest.raises(ResultTimeout):
            app.AsyncResult(new_id()).get(timeout=0.2, interval=0.05)

    def test_many_are_read_as_they_end(self, app, backend):
        ended, failed, never = new_id(), new_id(), new_id()
        backend.store_result(ended, 1, states.SUCCESS)
        backend.store_result(failed, ValueError("x"), states.FAILURE)

        many = backend.get_many([ended, failed, never], timeout=0.2, interval=0.05)
        found = dict([next(many), next(many)])

        assert {task_id: meta["status"] for task_id, meta in found.items()} == {ended: "SUCCESS", failed: "FAILURE"}
        with pytest.raises(ResultTimeout):
            next(many)

    def test_a_group_is_waited_for_in_its_order(self, app, make_app):
        ids = [new_id() for _ in range(20)]
        waits = threading.Event()

        def work() -> None:
            backend = make_app().backend
            for position in [*range(0, 20, 2), *range(19, 0, -2)]:
                if position == 19:
                    waits.wait(30)
                backend.store_result(ids[position], position, states.SUCCESS)

        worker = threading.Thread(target=work)
        worker.start()
        try:
            group = app.GroupResult(new_id(), [app.AsyncResult(task_id) for task_id in ids])
            assert group.get(timeout=30, interval=0.05, on_interval=waits.set) == list(range(20))
        finally:
            waits.set()
            worker.join()

    def test_a_groups_failure_is_raised(self, app, backend):
        ids = [new_id() for _ in range(3)]
        for task_id in ids[:2]:
            backend.store_result(task_id, 1, states.SUCCESS)
        backend.store_result(ids[2], CustomError("third"), states.FAILURE)
        group = app.GroupResult(new_id(), [app.AsyncResult(task_id) for task_id in ids])

        with pytest.raises(CustomError, match="third"):
            group.get(timeout=10, interval=0.05)
        values = group.get(timeout=10, interval=0.05, propagate=False)
        assert values[:2] == [1, 1]
        assert isinstance(values[2], CustomError)

    # -- groups ------------------------------------------------------------------------------------

    def test_a_saved_group_is_restored(self, app, make_app):
        parent = app.AsyncResult(new_id())
        inner = app.GroupResult(new_id(), [app.AsyncResult(new_id())])
        group = app.GroupResult(new_id(), [app.AsyncResult(new_id()), inner], parent=parent)

        group.save()

        other = make_app()
        restored = other.GroupResult.restore(group.id)
        assert restored.as_tuple() == group.as_tuple()
        assert (restored.id, restored.parent.id, restored.results[1].id) == (group.id, parent.id, inner.id)

    def test_a_group_that_was_deleted_or_never_saved_is_none(self, app):
        group = app.GroupResult(new_id(), [app.AsyncResult(new_id())])
        group.save()

        group.delete()
        group.delete()

        assert app.GroupResult.restore(group.id) is None
        assert app.GroupResult.restore(new_id()) is None

    # -- chords ------------------------------------------------------------------------------------

    @pytest.fixture
    def chord(self, app: Any) -> Chord:
        if not self.counts_chords:
            pytest.skip("celery.chord_unlock looks after chords here")
        return Chord(app, 4).begin()

    def test_the_last_member_calls_the_body_with_the_values_in_order(self, chord):
        for index in (2, 0, 3):
            chord.report(index)
        before = chord.bodies()

        chord.report(1)

        assert before == []
        assert chord.bodies() == [[[0, 1, 2, 3]]]

    def test_values_of_any_kind_reach_the_body(self, chord):
        values = [None, {"a": [1]}, "é\x00", [[]]]

        for index, value in enumerate(values):
            chord.app.backend.mark_as_done(chord.members[index], value, request=chord.request(index))

        assert chord.bodies() == [[values]]

    def test_a_member_that_reports_again_is_counted_once(self, chord):
        if not self.counts_once:
            pytest.skip("the store counts each report")

        for index in (0, 0, 1, 1, 2, 2, 0):
            chord.report(index)
        before = chord.bodies()
        chord.report(3)
        for index in (3, 0, 1):
            chord.report(index)

        assert before == []
        assert chord.bodies() == [[[0, 1, 2, 3]]]

    def test_a_member_that_reports_after_the_end_calls_nothing(self, chord):
        for index in range(4):
            chord.report(index)

        chord.report(3)
        chord.report(0)

        assert len(chord.bodies()) == 1

    def test_a_failed_member_fails_the_body(self, chord):
        chord.report(0)
        chord.report(1, CustomError("why"))
        chord.report(2)
        before = chord.app.AsyncResult(chord.body_id).state
        chord.report(3)

        body = chord.app.AsyncResult(chord.body_id)
        assert (before, body.state) == (states.PENDING, states.FAILURE)
        assert isinstance(body.result, ChordError)
        assert str(body.result) == f"Dependency {chord.members[1]} raised CustomError('why')"
        assert chord.bodies() == []

    def test_a_revoked_member_fails_the_body(self, chord):
        for index in range(3):
            chord.report(index)

        chord.app.backend.mark_as_revoked(chord.members[3], "expired", request=chord.request(3))

        body = chord.app.AsyncResult(chord.body_id)
        assert body.state == states.FAILURE
        assert str(body.result) == f"Dependency {chord.members[3]} raised TaskRevokedError('expired')"

    def test_the_body_is_called_when_the_queues_are_back(self, chord, make_app):
        down = make_app(WithoutBroker)
        for index in range(3):
            chord.report(index)
        with pytest.raises(OperationalError):
            chord.report(3, app=down)
        before = chord.bodies()

        chord.report(3)

        assert before == []
        assert chord.bodies() == [[[0, 1, 2, 3]]]

    def test_a_claim_whose_owner_died_is_taken_over(self, chord):
        for index in range(3):
            chord.report(index)
        self.claim_for_another(chord.app.backend, chord.group_id, 1)

        chord.report(3)

        assert chord.bodies() == [[[0, 1, 2, 3]]]

    def test_a_member_whose_chord_another_completes_for_too_long_asks_for_its_message_again(self, chord):
        for index in range(3):
            chord.report(index)
        self.claim_for_another(chord.app.backend, chord.group_id, 600)
        backend = chord.app.backend
        backend.sleep = lambda seconds: None
        backend.clock = iter(range(0, 10_000, 5)).__next__

        with pytest.raises(BackendStoreError, match=chord.group_id):
            chord.report(3)

        assert chord.bodies() == []

    def test_a_chord_that_is_sent_again_with_its_ids_runs_again(self, chord):
        for index in range(4):
            chord.report(index)
        chord.bodies()

        chord.begin()
        for index in range(4):
            chord.report(index)

        assert chord.bodies() == [[[0, 1, 2, 3]]]

    def test_two_chords_do_not_mix(self, chord, app):
        other = Chord(app, 2).begin()

        for index in range(3):
            chord.report(index)
        other.report(1)
        other.report(0, value="zero")

        assert other.bodies() == [[["zero", 1]]]
