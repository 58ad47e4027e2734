"""What an application offers besides tasks: workers and beats from programs, boot steps, control, Request classes."""

from __future__ import annotations

import logging
import uuid
import warnings
from datetime import datetime, timedelta, timezone

import pytest

from pyqs_celery import Celery, bootsteps, signals
from pyqs_celery.app.log import Logging, TaskFormatter
from pyqs_celery.contrib.testing.worker import start_worker
from pyqs_celery.exceptions import CeleryWarning, ControlUnavailable, ImproperlyConfigured, TimeLimitExceeded
from pyqs_celery.outcome import Outcome
from pyqs_celery.wire.envelope import decode_head
from pyqs_celery.worker.core.values import Note
from pyqs_celery.worker.notes import Notes
from pyqs_celery.worker.request import Request
from tests.unit.worker.core_harness import World, body

# -- bad input -----------------------------------------------------------------------------------------


def test_what_expires_before_it_may_run_is_warned_of(app):
    with pytest.warns(CeleryWarning, match="expires"):
        app.send_task("t", countdown=60, expires=10)


@pytest.mark.parametrize("eta", [5, "soon", object()])
def test_an_eta_that_is_no_time(app, eta):
    with pytest.raises(ValueError, match=r"eta|ISO"):
        app.send_task("t", eta=eta)


def test_a_soft_limit_above_the_hard_one_is_warned_of(app):
    with pytest.warns(CeleryWarning, match="killed before it is told"):
        app.task(lazy=False, time_limit=5, soft_time_limit=10)(lambda: None)


def test_a_task_class_that_does_not_import(broker):
    app = Celery("x", broker=broker, task_cls="no.such:Thing", set_as_current=False)

    with pytest.raises(ImproperlyConfigured, match=r"no\.such:Thing"):
        app.task(lazy=False)(lambda: None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("worker_lease_seconds", "long"),
        ("task_time_limit", "1h"),
        ("broker_transport_options", "x"),
        ("enable_utc", "maybe"),
    ],
)
def test_a_setting_of_the_wrong_type(app, name, value):
    with pytest.raises(ImproperlyConfigured, match=name):
        app.conf[name] = value


# -- configuration -------------------------------------------------------------------------------------


def test_setting_something_does_not_configure_yet(broker):
    app = Celery("x", set_as_current=False)
    app.conf.broker_url = broker
    told = []

    @app.on_after_configure.connect
    def note(sender, source, **kwargs):
        told.append(source.broker_url)

    assert told == []
    assert app.conf.broker_url == broker
    assert told == [broker]


def test_several_apps_in_one_process_keep_apart(broker):
    one, two = (Celery(name, broker=broker, set_as_current=False, task_default_queue=name) for name in ("one", "two"))

    @one.task(name="only.one")
    def job():
        pass

    assert "only.one" in one.tasks
    assert "only.one" not in two.tasks
    assert (one.conf.task_default_queue, two.conf.task_default_queue) == ("one", "two")


def test_annotations_change_tasks(app):
    class Annotate:
        def annotate(self, task):
            return {"time_limit": 7} if task.name == "job" else None

    app.conf.task_annotations = (Annotate(), {"*": {"rate_limit": "3/s"}, "job": {"max_retries": 9}})
    job = app.task(name="job", lazy=False)(lambda: None)

    assert (job.time_limit, job.rate_limit, job.max_retries) == (7, "3/s", 9)


def test_a_logging_class_of_ones_own(broker):
    class Own(Logging):
        pass

    assert isinstance(Celery("x", broker=broker, log=Own, set_as_current=False).log, Own)


def test_tasks_are_named_in_their_lines():
    record = logging.LogRecord("celery.task", logging.INFO, __file__, 1, "said", (), None)

    assert TaskFormatter("%(task_name)s[%(task_id)s] %(message)s").format(record) == "???[???] said"


# -- control -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ask", ["ping", "shutdown", "rate_limit", "add_consumer", "revoke_by_stamped_headers", "broadcast", "no_such_thing"]
)
def test_what_needs_a_broadcast_says_so(app, ask):
    arguments = ("x", "1/s") if ask == "rate_limit" else ("x",)
    with pytest.raises(ControlUnavailable, match="SQS does not have"):
        getattr(app.control, ask)(*arguments)


def test_purge_counts_and_empties(app, sent):
    for _ in range(3):
        app.send_task("t")

    assert app.control.purge() == 3
    assert sent() == []


def test_declared_queues_are_kombus(app):
    from kombu import Queue

    app.conf.task_queues = [Queue("a", routing_key="a.#"), "b"]

    assert {name: queue.routing_key for name, queue in app.amqp.queues.items()} == {"a": "a.#", "b": "b"}
    assert app.amqp.queues["other"].name == "other"


def test_a_report_hides_secrets(app):
    app.conf.update(redis_password="geheim", broker_url="sqs://KEY:SECRET@")

    assert "geheim" not in app.bugreport()
    assert "SECRET" not in app.bugreport()


def test_a_report_and_the_table_hide_secrets_within_options_and_show_the_rest_as_it_is(app):
    queue = {"url": "https://sqs.eu-west-1.amazonaws.com/1/a", "secret_access_key": "geheim", "backoff_policy": {1: 10}}
    app.conf.broker_transport_options = {"region": "eu-west-1", "predefined_queues": {"a": queue}}
    app.conf.result_backend = ["redis://:geheim@host/0"]
    app.conf.worker_lease_seconds = 30

    assert "geheim" not in app.bugreport()
    assert app.conf.table(with_defaults=False)["broker_transport_options"] == {
        "region": "eu-west-1",
        "predefined_queues": {"a": {**queue, "secret_access_key": "********"}},
    }
    assert "geheim" not in str(app.conf.table(with_defaults=False))
    assert app.conf.table()["worker_lease_seconds"] == 30
    assert app.conf.table(censored=False)["broker_transport_options"]["predefined_queues"] == {"a": queue}


# -- boot steps ----------------------------------------------------------------------------------------


def test_steps_are_made_started_and_stopped(caplog):
    seen = []

    class Live(bootsteps.StartStopStep):
        def __init__(self, parent, **options):
            seen.append(("made", parent.hostname))

        def start(self, parent):
            seen.append("started")

        def stop(self, parent):
            seen.append("stopped")
            raise RuntimeError("its own mistake")

    class Never(bootsteps.Step):
        def include_if(self, parent):
            return False

    class Consumes(bootsteps.ConsumerStep):
        pass

    app = Celery("steps", broker=f"memory://{uuid.uuid4().hex}", set_as_current=False)
    app.conf.broker_transport_options = {"wait_time_seconds": 1}
    app.steps["worker"].update({Live, Never})
    app.steps["consumer"].add(Consumes)

    with start_worker(app, hostname="me@here"):
        assert seen == [("made", "me@here"), "started"]

    assert seen[2:] == ["stopped"]
    assert "its own mistake" in caplog.text
    assert "consumes messages with kombu" in caplog.text


# -- Request classes -----------------------------------------------------------------------------------


def test_a_tasks_own_request_class_hears_of_limits_and_losses(app):
    heard = []

    class Own(Request):
        def on_timeout(self, soft, timeout):
            heard.append(("timeout", soft, timeout, self.name))

        def on_failure(self, exc_info, send_failed_event=True, return_ok=False):
            heard.append(("failure", type(exc_info.exception).__name__))

    failed = []

    class Base(app.Task):
        abstract = True
        Request = Own

        def on_failure(self, exc, task_id, args, kwargs, einfo):
            failed.append((type(exc), task_id))

    app.task(name="t", base=Base, soft_time_limit=2, lazy=False)(lambda: None)
    delivery = World().delivery(text=body(task_id="i", timelimit=[5, 2]))
    head = decode_head(delivery.body)
    notes = Notes(app, "w@h", None)

    notes.tell(Note("failed", delivery, head, "", Outcome("failed", "t", "i", exception="SoftTimeLimitExceeded")))
    hard = Outcome("failed", "t", "i", exception="TimeLimitExceeded", timed_out=True)
    notes.tell(Note("failed", delivery, head, "TimeLimitExceeded(5,)", hard))
    notes.tell(Note("lost", delivery, head, "signal 9 (SIGKILL)"))

    assert heard == [
        ("timeout", True, 2.0, "t"),
        ("timeout", False, 5.0, "t"),
        ("failure", "TimeLimitExceeded"),
        ("failure", "WorkerLostError"),
    ]
    assert failed[0] == (TimeLimitExceeded, "i")


def test_a_request_class_that_raises_stops_nobody(app, caplog):
    class Bad(Request):
        def __init__(self, *args, **kwargs):
            raise RuntimeError("its own mistake")

    got = []
    app.task(name="t", Request=Bad, lazy=False)(lambda: None)
    delivery = World().delivery()
    receiver = lambda request, **kwargs: got.append(request.name)  # noqa: E731
    signals.task_received.connect(receiver, weak=False, dispatch_uid="bad")
    try:
        Notes(app, "w@h", None).tell(Note("received", delivery, decode_head(delivery.body)))
    finally:
        signals.task_received.disconnect(dispatch_uid="bad")

    assert got == ["t"]
    assert "its own mistake" in caplog.text


# -- from programs -------------------------------------------------------------------------------------


def test_a_worker_from_a_program_has_the_flags_of_the_command_line(app):
    worker = app.Worker(queues=["a", "b"], concurrency=3, pool="threads", hostname="w@h", loglevel="INFO")

    assert (worker.config.queues, worker.concurrency, worker.hostname) == (("a", "b"), 3, "w@h")
    with pytest.raises(TypeError, match="no option nonsense"):
        app.Worker(nonsense=1)


def test_worker_main_wants_the_word_worker(app):
    with pytest.raises(ValueError, match="worker"):
        app.worker_main(["-c", "1"])


def test_eta_in_the_applications_zone_is_that_instant(app, sent):
    app.conf.timezone = "Asia/Tokyo"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        app.send_task("t", eta=datetime.now(timezone.utc) - timedelta(seconds=5))

    [message] = sent()
    assert message.eta_at < datetime.now(timezone.utc).timestamp()
