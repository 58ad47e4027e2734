"""Declaring and running tasks: names, retries, hooks, eager calls, and one run on a worker's side."""

from __future__ import annotations

import pytest

from pyqs_celery import Celery, Task, events, shared_task, task, wire
from pyqs_celery.exceptions import Ignore, MaxRetriesExceededError, Reject, Retry
from pyqs_celery.execution import execute


def run(app, message, **facts):
    sqs = {"message_id": "m", "receive_count": 1, "logical": "q", **facts}
    return execute(app, message, sqs=sqs, hostname="w@h", last_delivery=False)


def call(app, name, *args, **fields):
    return run(app, wire.TaskMessage(2, name, "id", args=list(args), **fields))


def test_names(app):
    @app.task
    def here():
        pass

    def main():
        pass

    main.__module__ = "__main__"

    assert here.name == f"{__name__}.here"
    assert app.task(main).name == "proj.main"
    assert app.task(lambda: None, name="given").name == "given"


def test_shared_tasks_reach_every_app_also_those_to_come(broker):
    @shared_task(name="shared.early")
    def early():
        return "early"

    app = Celery("later", broker=broker, set_as_current=False)

    assert "shared.early" in app.tasks
    assert app.tasks["shared.early"]() == "early"


def test_unknown_options_become_attributes(app):
    @app.task(name="a", queue="q", my_own="x", max_retries=None)
    def a():
        pass

    assert (a.my_own, a.queue, a.max_retries) == ("x", "q", None)


def test_a_task_class_keeps_its_state_and_hooks(app):
    told = []

    class Base(Task):
        abstract = True

        def on_success(self, retval, task_id, args, kwargs):
            told.append(("success", retval))

        def on_failure(self, exc, task_id, args, kwargs, einfo):
            told.append(("failure", str(exc)))

        def after_return(self, status, retval, task_id, args, kwargs, einfo):
            told.append(status)

    @app.task(name="a", base=Base, bind=True)
    def a(self, fail):
        assert isinstance(self, Base)
        if fail:
            raise ValueError("no")
        return 7

    assert call(app, "a", False).kind == "succeeded"
    assert call(app, "a", True).kind == "failed"
    assert told == [("success", 7), "SUCCESS", ("failure", "no"), "FAILURE"]


@pytest.mark.parametrize(
    ("raised", "kind", "facts"),
    [
        (Ignore(), "ignored", {}),
        (Reject("why", requeue=True), "rejected", {"requeue": True, "reason": "why"}),
        (ValueError("x"), "failed", {"exception": "ValueError", "exhausted": False}),
        (SystemExit(1), "failed", {"exception": "SystemExit"}),
        (MemoryError(), "failed", {"exception": "MemoryError"}),
    ],
)
def test_how_a_run_ends(app, raised, kind, facts):
    @app.task(name="a")
    def a():
        raise raised

    outcome = call(app, "a")

    assert outcome.kind == kind
    assert {name: getattr(outcome, name) for name in facts} == facts


def test_an_unregistered_task_is_unknown(app):
    assert call(app, "os.system", "true").kind == "unknown"


def test_a_retry_is_sent_before_the_old_message_may_go(app, sent):
    @app.task(name="a", bind=True, max_retries=3, default_retry_delay=0)
    def a(self, x):
        raise self.retry(exc=ValueError("again"))

    outcome = run(app, wire.TaskMessage(2, "a", "id", args=[1], retries=1, headers={"tenant": "t"}))

    assert outcome.kind == "retried"
    [message] = sent("q")
    assert (message.id, message.retries, message.args, message.headers) == ("id", 2, [1], {"tenant": "t"})


def test_used_up_retries_are_told_as_such(app):
    @app.task(name="a", bind=True, max_retries=1)
    def a(self):
        raise self.retry(exc=ValueError("again"))

    outcome = run(app, wire.TaskMessage(2, "a", "id", retries=1))

    assert (outcome.kind, outcome.exception, outcome.exhausted) == ("failed", "ValueError", True)


def test_used_up_retries_without_a_cause(app):
    @app.task(name="a", bind=True, max_retries=0)
    def a(self):
        self.retry()

    assert call(app, "a").exception == MaxRetriesExceededError.__name__


def test_autoretry(app, sent):
    @app.task(name="a", autoretry_for=(KeyError,), retry_backoff=True, retry_jitter=False, max_retries=5)
    def a():
        return {}["x"]

    assert run(app, wire.TaskMessage(2, "a", "id", retries=2)).kind == "retried"
    assert sent.delayed("q") == 1


def test_a_retry_that_cannot_be_sent_leaves_the_message(app):
    app.conf.broker_url = "sqs://k:s@127.0.0.1:1"
    app.conf.broker_transport_options = {"is_secure": False, "region": "us-east-1"}
    app.publisher().budget_seconds = 0.2

    @app.task(name="a", bind=True)
    def a(self):
        raise self.retry(countdown=0)

    outcome = call(app, "a")

    assert (outcome.kind, outcome.requeue) == ("rejected", True)


def test_eager_retries_run_through(app):
    tries = []

    @app.task(name="a", bind=True, max_retries=3)
    def a(self):
        tries.append(self.request.retries)
        if self.request.retries < 2:
            raise self.retry(countdown=100)
        return "done"

    assert a.apply().get() == "done"
    assert tries == [0, 1, 2]


def test_retry_outside_of_a_worker_raises_its_cause(app):
    @app.task(name="a", bind=True)
    def a(self):
        raise self.retry(exc=KeyError("cause"))

    with pytest.raises((KeyError, Retry)):
        a()


def test_links_of_a_message_are_sent_with_the_result(app, sent):
    @app.task(name="a")
    def a():
        return 5

    link = {
        "task": "b",
        "args": [1],
        "kwargs": {},
        "options": {"queue": "next"},
        "subtask_type": None,
        "immutable": False,
    }

    outcome = run(app, wire.TaskMessage(2, "a", "id", callbacks=[link], chain=[{**link, "task": "c"}]))

    assert outcome.kind == "succeeded"
    assert sorted((message.task, message.args) for message in sent("next")) == [("b", [5, 1]), ("c", [5, 1])]


def test_a_chord_member_is_left_to_a_celery_worker_unrun(app):
    ran = []

    @app.task(name="a")
    def a():
        ran.append(1)

    body = {"task": "b", "args": [], "kwargs": {}, "options": {}, "subtask_type": None, "immutable": False}

    assert run(app, wire.TaskMessage(2, "a", "id", chord=body, group="g")).kind == "unsupported"
    assert not ran


def test_async_functions_are_awaited(app):
    @app.task(name="a")
    async def a():
        return 3

    assert a.apply().get() == 3


def test_pyqs_tasks_send_plain_json_that_pyqs_reads(app, sent):
    app.set_current()

    @task(queue="emails", delay_seconds=None)
    def send_email(subject, to=None):
        return f"{subject} to {to}"

    send_email.delay("hello", to="a@b.c")

    [raw] = sent.raw("emails")
    message = wire.decode(raw)
    assert message.protocol == "pyqs"
    assert (message.task, message.args, message.kwargs) == (f"{__name__}.send_email", ["hello"], {"to": "a@b.c"})
    assert app.tasks[message.task] is not None
    assert send_email("hi") == "hi to None"


def test_pyqs_events_know_two_moments():
    with pytest.raises(events.NoEventException):
        events.register_event("between", print)
    events.register_event("pre_process", print)
    assert events.get_events().pre_process == [print]
    events.clear_events()
    assert events.get_events().pre_process == []
