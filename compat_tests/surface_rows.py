"""The rows of the compatibility table: each item of Celery's surface that most or many applications use, and its proof.

A row is a function that exercises the item with a running worker of ours over SQS; ``no`` states what is not here.
README's table is made of these by ``python -m compat_tests.surface_rows``.
"""

from __future__ import annotations

import logging
import re
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import pyqs_celery
from pyqs_celery import Celery, Task, shared_task, signals, states
from pyqs_celery.exceptions import (
    ControlUnavailable,
    Ignore,
    MaxRetriesExceededError,
    NotRegistered,
    OperationalError,
    Reject,
    Retry,
)
from tests.support.waiting import until


@dataclass(frozen=True)
class Row:
    """One item: where in the table, how common (A most applications, B many), and how it is proved, or why it is not there."""

    section: str
    tier: str
    item: str
    prove: Callable[..., None] | None = None
    reason: str = ""
    elsewhere: str = ""


ROWS: list[Row] = []


def row(section: str, tier: str, item: str) -> Callable[[Any], Any]:
    def take(function: Callable[..., None]) -> Callable[..., None]:
        ROWS.append(Row(section, tier, item, function))
        return function

    return take


def no(section: str, tier: str, item: str, reason: str) -> None:
    ROWS.append(Row(section, tier, item, reason=reason))


def elsewhere(section: str, tier: str, item: str, test: str) -> None:
    """Proved with real processes, by the test that is named."""
    ROWS.append(Row(section, tier, item, elsewhere=test))


# -- imports -------------------------------------------------------------------------------------------


@row("Imports", "A", "Celery, Task, shared_task, crontab, exceptions, signals, get_task_logger")
def _(world):
    from pyqs_celery.schedules import crontab
    from pyqs_celery.utils.log import get_task_logger

    assert get_task_logger("x").parent.name == "celery.task"
    assert crontab(minute=5).minute == {5}
    assert callable(Celery)
    assert callable(shared_task)
    with pytest.raises(RuntimeError):
        get_task_logger("celery")


@row("Imports", "B", "current_app, current_task, states, uuid, AsyncResult, signature, kombu.Queue, OperationalError")
def _(world):
    from kombu.exceptions import OperationalError as Kombus

    assert issubclass(OperationalError, Kombus) or OperationalError is Kombus
    assert not pyqs_celery.current_task
    assert uuid.UUID(pyqs_celery.uuid())
    assert {"SUCCESS", "FAILURE", "REVOKED"} == states.READY_STATES
    seen = world.run(lambda self: (pyqs_celery.current_task.name, pyqs_celery.current_app.main), bind=True)
    assert seen[1] == world.app.main


@row("Imports", "B", "chain, group, chord, chunks")
def _(world):
    from pyqs_celery import chain, chord, chunks, group, xmap, xstarmap

    add, total = world.task(lambda x, y: x + y), world.task(lambda values: sum(values))  # noqa: PLW0108 - tasks
    assert chain(add.s(1, 2), add.s(3)).delay().get(timeout=20) == 6
    assert group(add.s(1, 1), add.s(2, 2)).delay().get(timeout=20) == [2, 4]
    assert chord([add.s(1, 1), add.s(2, 2)], total.s()).delay().get(timeout=20) == 6
    assert (group(add.s(1, 1), add.s(2, 2)) | total.s() | add.s(1)).delay().get(timeout=20) == 7
    assert issubclass(chunks, dict)
    assert issubclass(xmap, dict)
    assert issubclass(xstarmap, dict)


# -- application ---------------------------------------------------------------------------------------


@row("Application", "A", "Celery(main, broker=, include=, task_cls=, any setting), subclasses that override send_task")
def _(world):
    seen = []

    class Own(Celery):
        def send_task(self, *args, **kwargs):
            seen.append(args[0])
            return super().send_task(*args, **kwargs)

    app = Own("own", broker=world.url, task_default_queue="other", set_as_current=False)

    @app.task(name="world.echo")
    def echo(x):
        return x

    with app:
        echo.delay(1)
        echo.s(2).apply_async()
    assert seen == ["world.echo"] * 2


@row("Application", "A", "config_from_object(namespace=), conf by attribute and item, conf.update, changes in place")
def _(world):
    app = Celery("c", set_as_current=False)
    app.config_from_object({"CELERY_TASK_DEFAULT_QUEUE": "a", "CELERY_ONCE": {"x": 1}}, namespace="CELERY")
    app.conf.update(task_track_started=True)
    app.conf.beat_schedule["e"] = {"task": "t", "schedule": 1}
    assert (app.conf.task_default_queue, app.conf["task_track_started"]) == ("a", True)
    assert app.conf.CELERY_ONCE == {"x": 1}
    assert app.conf.beat_schedule["e"]["task"] == "t"


@row("Application", "A", "autodiscover_tasks(packages, related_name=), imports, include")
def _(world):
    app = Celery("d", set_as_current=False, broker=world.url)
    app.autodiscover_tasks(["pyqs_celery.contrib.testing"])
    app.loader.import_default_modules()
    assert "celery.ping" in app.tasks


@row(
    "Application", "A", "@app.task with and without parentheses; lazy until the app is finalised; names, also __main__"
)
def _(world):
    app = Celery("n", set_as_current=False)

    @app.task
    def one():
        pass

    @app.task()
    def two():
        pass

    assert one.name.endswith(".one")
    assert two.name.endswith(".two")
    assert app.gen_task_name("f", "__main__") == "n.f"


@row("Application", "A", "send_task by name, also of tasks that are not registered")
def _(world):
    assert world.app.send_task("world.echo", (5,)).get(timeout=10) == 5


@row("Application", "B", "app.Task = Base, app.tasks['old'] = app.tasks['new'], on_after_configure, add_periodic_task")
def _(world):
    world.app.tasks["old.echo"] = world.app.tasks["world.echo"]
    assert world.app.send_task("old.echo", (6,)).get(timeout=10) == 6
    app = Celery("p", set_as_current=False)

    @app.on_after_configure.connect
    def add(sender, **kwargs):
        sender.add_periodic_task(1.0, app.signature("t"), name="n")

    assert app.conf.beat_schedule["n"]["task"] == "t"


@row(
    "Application",
    "B",
    "environment: CELERY_BROKER_URL, CELERY_BROKER_WRITE_URL, CELERY_RESULT_BACKEND win over settings",
)
def _(world, monkeypatch):
    monkeypatch.setenv("CELERY_BROKER_URL", "sqs://a:b@")
    assert Celery("e", broker="sqs://", set_as_current=False).conf.broker_url == "sqs://a:b@"


elsewhere(
    "Application",
    "B",
    "app.control.inspect, ping, broadcast, shutdown, pool_grow, pool_shrink, pool_restart, rate_limit, time_limit, add_consumer, cancel_consumer: on the same host",
    "tests/processes/test_control.py",
)
no(
    "Application",
    "B",
    "app.control.inspect, broadcast: workers on other hosts",
    "SQS has no broadcast: ControlUnavailable says what to do",
)
elsewhere(
    "Application",
    "B",
    "app.control.revoke, with and without terminate: marks in the result store",
    "tests/processes/test_revoke.py",
)

# -- decorator -----------------------------------------------------------------------------------------


@row("Task options", "A", "bind, name, base, unknown options as attributes")
def _(world):
    class Base(Task):
        abstract = True
        flavour = "base"

    task = world.task(lambda self: (self.flavour, self.monitors), bind=True, base=Base, monitors=["m"])
    assert task.delay().get(timeout=10) == ["base", ["m"]]


@row("Task options", "A", "max_retries, default_retry_delay, self.retry, MaxRetriesExceededError")
def _(world):
    def body(self):
        if self.request.retries < 2:
            self.retry(countdown=0)
        return self.request.retries

    assert world.run(body, bind=True, max_retries=2) == 2
    with pytest.raises(MaxRetriesExceededError):
        world.run(lambda self: self.retry(), bind=True, max_retries=0)


@row("Task options", "A", "autoretry_for, dont_autoretry_for, retry_kwargs, retry_backoff(_max), retry_jitter")
def _(world):
    calls = []

    def body():
        calls.append(1)
        if len(calls) < 3:
            raise KeyError("again")
        return len(calls)

    assert world.run(body, autoretry_for=(LookupError,), retry_kwargs={"countdown": 0, "max_retries": 5}) == 3

    def wrong():
        raise KeyError("never")

    with pytest.raises(KeyError):
        world.run(wrong, autoretry_for=(LookupError,), dont_autoretry_for=(KeyError,), retry_backoff=True)


@row("Task options", "A", "ignore_result, track_started, throws")
def _(world, caplog):
    result = world.task(lambda: 1, ignore_result=True).delay()
    world.run(lambda: 1)
    assert result.state == "PENDING"

    def body():
        raise KeyError("expected")

    with caplog.at_level(logging.INFO, "celery.app.trace"):
        with pytest.raises(KeyError):
            world.run(body, throws=(KeyError,))
        until(lambda: "raised expected" in caplog.text, "the line, which follows the result")


@row("Task options", "A", "typing: wrong arguments raise TypeError at the call")
def _(world):
    with pytest.raises(TypeError):
        world.task(lambda x: x).delay()


@row("Task options", "B", "queue, serializer, compression, expires, priority, trail, retry options as attributes")
def _(world):
    def body(self):
        return [self.request.delivery_info["routing_key"], self.request.delivery_info["priority"]]

    task = world.task(body, bind=True, queue="other", serializer="json", compression="gzip", priority=3, expires=60)
    assert task.delay().get(timeout=10) == ["other", 3]


@row("Task options", "B", "rate_limit: '2/s', per worker")
def _(world):
    task = world.task(time.time, rate_limit="4/s", typing=False)
    starts = sorted(result.get(timeout=10) for result in [task.delay() for _ in range(3)])
    assert starts[2] - starts[0] >= 0.45


@row("Task options", "C", "pydantic=True, async def")
def _(world):
    import pydantic

    class Model(pydantic.BaseModel):
        n: int

    async def body(model: Model) -> Model:
        return Model(n=model.n + 1)

    body.__annotations__ = {"model": Model, "return": Model}
    assert world.task(body, pydantic=True).delay(Model(n=1)).get(timeout=10) == {"n": 2}


elsewhere(
    "Task options",
    "A",
    "acks_late, reject_on_worker_lost, acks_on_failure_or_timeout",
    "tests/processes/test_acknowledgement.py",
)
elsewhere("Task options", "B", "time_limit, soft_time_limit", "tests/processes/test_fate.py")

# -- hooks ---------------------------------------------------------------------------------------------


@row("Task hooks", "A", "__call__, run, on_failure, on_success, before_start, on_retry, after_return")
def _(world):
    seen = []

    class Base(Task):
        abstract = True

        def __call__(self, *args, **kwargs):
            seen.append("call")
            return super().__call__(*args, **kwargs)

        def before_start(self, task_id, args, kwargs):
            seen.append("before_start")

        def on_success(self, retval, task_id, args, kwargs):
            seen.append(f"on_success {retval} {self.request.id == task_id}")

        def on_failure(self, exc, task_id, args, kwargs, einfo):
            seen.append(f"on_failure {exc!r} {bool(einfo.traceback)}")

        def after_return(self, status, retval, task_id, args, kwargs, einfo):
            seen.append(f"after_return {status}")

    def fail():
        raise KeyError("k")

    world.run(lambda: 7, base=Base)
    with pytest.raises(KeyError):
        world.run(fail, base=Base)
    world.settle(lambda: len(seen) == 8)
    assert seen == [
        *("before_start", "call", "on_success 7 True", "after_return SUCCESS"),
        *("before_start", "call", "on_failure KeyError('k') True", "after_return FAILURE"),
    ]


@row("Task hooks", "A", "apply_async overridden: delay, retries, signatures and beat go through it")
def _(world):
    calls = []

    class Base(Task):
        abstract = True

        def apply_async(
            self, args=None, kwargs=None, task_id=None, producer=None, link=None, link_error=None, **options
        ):
            calls.append(args)
            return super().apply_async(args, kwargs, task_id, producer, link, link_error, **options)

    task = world.task(lambda x: x, base=Base)
    task.delay(1).get(timeout=10)
    task.s(2).delay().get(timeout=10)
    assert [tuple(args) for args in calls] == [(1,), (2,)]


@row("Task hooks", "B", "class-based tasks by app.register_task; delay_on_commit in Django projects")
def _(world):
    class Twice(Task):
        name = f"twice-{uuid.uuid4().hex}"

        def run(self, x):
            return 2 * x

    assert world.app.register_task(Twice()).delay(4).get(timeout=10) == 8


# -- calling -------------------------------------------------------------------------------------------


@row("Calling", "A", "delay, apply_async(args, kwargs), a direct call")
def _(world):
    task = world.task(lambda x, y=0: x + y)
    assert task.delay(1, y=2).get(timeout=10) == 3
    assert task.apply_async((1,), {"y": 4}).get(timeout=10) == 5
    assert task.apply_async(args=[1]).get(timeout=10) == 1
    assert task(1, 1) == 2


@row("Calling", "A", "countdown, eta: never early, no slot and no message in flight meanwhile")
def _(world):
    task = world.task(time.time, typing=False)
    now = time.time()
    first = task.apply_async(countdown=1.2)
    second = task.apply_async(eta=datetime.now(timezone.utc) + timedelta(seconds=1.2))
    assert first.get(timeout=15) - now >= 1.2
    assert second.get(timeout=15) - now >= 1.2


@row("Calling", "A", "queue=, routing by task_routes")
def _(world):
    def body(self):
        return self.request.delivery_info["routing_key"]

    assert world.task(body, bind=True).apply_async(queue="other").get(timeout=10) == "other"


@row("Calling", "A", "MessageGroupId=, MessageDeduplicationId= on FIFO queues; kept across retries")
def _(world):
    def body(self):
        if not self.request.retries:
            self.retry(countdown=0)
        return self.request.sqs["group_id"]

    task = world.task(body, bind=True)
    result = task.apply_async(queue="orders.fifo", MessageGroupId="g", MessageDeduplicationId=uuid.uuid4().hex)
    assert result.get(timeout=10) == "g"


@row("Calling", "A", "headers=: attributes of self.request, and request.headers")
def _(world):
    task = world.task(lambda self: [self.request.tenant, self.request.headers["tenant"]], bind=True)
    assert task.apply_async(headers={"tenant": "t1"}).get(timeout=10) == ["t1", "t1"]


@row("Calling", "B", "task_id=, expires=, shadow=, priority=, ignore_result=, serializer=, compression=")
def _(world):
    task_id = uuid.uuid4().hex
    task = world.task(lambda self: self.request.id, bind=True)
    assert task.apply_async(task_id=task_id, shadow="s", compression="bzip2").get(timeout=10) == task_id
    gone = task.apply_async(expires=-1)
    world.settle(lambda: gone.state == "REVOKED")


@row("Calling", "B", "link=, link_error=")
def _(world):
    seen = []
    after = world.task(lambda value: seen.append(("link", value)))
    broken = world.task(lambda request, exc, traceback: seen.append(("link_error", repr(exc))))

    def fail():
        raise KeyError("k")

    world.task(lambda: 3).apply_async(link=after.s())
    world.task(fail, acks_on_failure_or_timeout=True, max_retries=0).apply_async(link_error=broken.s())
    world.settle(lambda: ("link", 3) in seen)


@row("Calling", "A", "a broker out of reach is kombu's OperationalError; what cannot be serialised its EncodeError")
def _(world):
    from kombu.exceptions import EncodeError

    with pytest.raises(EncodeError):
        world.task(lambda x: x).delay(object())
    away = Celery("away", broker="sqs://k:s@127.0.0.1:9", set_as_current=False)
    away.publisher().budget_seconds = 0.1
    with pytest.raises(OperationalError):
        away.send_task("x")


@row("Calling", "A", "task_always_eager, task_eager_propagates, apply()")
def _(world):
    app = Celery("eager", set_as_current=False, task_always_eager=True, task_eager_propagates=True)

    @app.task(bind=True)
    def job(self, x):
        if x < 0:
            raise ValueError(x)
        return self.request.is_eager

    assert job.delay(1).get() is True
    with pytest.raises(ValueError, match="-1"):
        job.delay(-1)
    assert job.apply((1,)).state == "SUCCESS"


# -- inside --------------------------------------------------------------------------------------------


@row("Inside a task", "A", "self.request: id, retries, delivery_info, hostname, args, kwargs, get(name)")
def _(world):
    def body(self, x, y=None):
        request = self.request
        return [request.retries, request.args, request.kwargs, "@" in request.hostname, request.get("nothing", 4)]

    assert world.task(body, bind=True).delay(1, y=2).get(timeout=10) == [0, [1], {"y": 2}, True, 4]


@row("Inside a task", "A", "update_state")
def _(world):
    task = world.task(
        lambda self: self.update_state(state="PROGRESS", meta={"n": 1}) or self.AsyncResult(self.request.id).info,
        bind=True,
    )
    assert task.delay().get(timeout=10) == {"n": 1}


@row("Inside a task", "B", "raise Ignore, Reject, Retry; self.MaxRetriesExceededError, self.name, self.app")
def _(world):
    seen = []
    cases = {"ignore": Ignore, "reject": lambda: Reject("no", requeue=False)}

    def body(self, how):
        made = cases[how]()
        seen.append((how, self.name == task.name, self.app is world.app))
        raise made

    task = world.task(body, bind=True)
    task.delay("ignore")
    task.delay("reject")
    world.settle(lambda: len(seen) == 2)
    assert sorted(seen) == [("ignore", True, True), ("reject", True, True)]
    assert str(Retry(exc=KeyError("x"), when=20)) == "Retry in 20s: KeyError('x')"
    assert issubclass(NotRegistered, KeyError)


@row("Inside a task", "C", "self.replace(signature), request.sqs: SQS's own facts")
def _(world):
    other = world.task(lambda: "replaced")

    def body(self):
        assert self.request.sqs["receive_count"] == 1
        raise self.replace(other.s())

    assert world.task(body, bind=True).delay().get(timeout=10) == "replaced"


# -- results -------------------------------------------------------------------------------------------


@row(
    "Results", "B", "AsyncResult: state, get(timeout, propagate), ready, successful, failed, result, traceback, forget"
)
def _(world):
    result = world.task(lambda: {"a": 1}).delay()
    assert result.get(timeout=10) == {"a": 1}
    assert (result.ready(), result.successful(), result.failed(), result.result) == (True, True, False, {"a": 1})
    result.forget()
    assert result.state == "PENDING"


elsewhere(
    "Results", "A", "Redis, DynamoDB, S3, SQLAlchemy: either side reads the other's", "compat_tests/mixed/test_mixed.py"
)
elsewhere(
    "Results", "B", "Sentinel, memcached, files, django-db, django-cache", "tests/integrations/test_django_results.py"
)


@row("Results", "B", "GroupResult, ResultSet: join, iterate, completed_count, save, restore; children, graph, collect")
def _(world):
    from pyqs_celery import chain, group

    add = world.task(lambda x, y: x + y)
    result = group(add.s(1, 1), add.s(2, 2)).delay()
    assert result.join(timeout=20) == [2, 4]
    result.save()
    again = world.app.GroupResult.restore(result.id)
    assert (again.completed_count(), again.ready(), again == result) == (2, True, True)
    assert sorted(again.iterate(timeout=5)) == [2, 4]
    last = chain(add.s(1, 1), add.s(1)).delay()
    last.get(timeout=20)
    assert [value for _, value in last.parent.collect(timeout=5)] == [2, 3]
    assert len(last.parent.graph) == 2


# -- signals -------------------------------------------------------------------------------------------


@row("Signals", "A", "before_task_publish and after_task_publish: the very headers that are sent")
def _(world):
    def add(sender, headers, **kwargs):
        headers["traceparent"] = f"of {sender}"

    signals.before_task_publish.connect(add)
    try:
        task = world.task(lambda self: self.request.traceparent, bind=True)
        assert task.delay().get(timeout=10) == f"of {task.name}"
    finally:
        signals.before_task_publish.disconnect(add)


@row("Signals", "A", "task_prerun, task_postrun, task_success, task_failure; a receiver that raises is logged")
def _(world, caplog):
    seen = []

    def note(signal, sender, **kwargs):
        seen.append((signal.name, sender.name, sorted(kwargs)))
        raise RuntimeError("a receiver's own mistake")

    four = (signals.task_prerun, signals.task_postrun, signals.task_success, signals.task_failure)
    task = world.task(lambda x: 1 // x, acks_on_failure_or_timeout=True)
    for signal in four:
        signal.connect(note)
    try:
        task.delay(1).get(timeout=10)
        with pytest.raises(ZeroDivisionError):
            task.delay(0).get(timeout=10)
        world.settle(lambda: sum(name == "task_postrun" for name, _, _ in seen) >= 2)
    finally:
        for signal in four:
            signal.disconnect(note)
    assert {name for name, _, _ in seen} == {signal.name for signal in four}
    assert {sender for _, sender, _ in seen} == {task.name}
    by_name = {name: arguments for name, _, arguments in seen}
    assert by_name["task_failure"] == ["args", "einfo", "exception", "kwargs", "task_id", "traceback"]
    assert "a receiver's own mistake" in caplog.text


@row("Signals", "B", "task_retry, task_revoked (expired), task_received, task_unknown")
def _(world):
    seen = {}

    def note(signal, **kwargs):
        seen[signal.name] = kwargs

    four = (signals.task_retry, signals.task_revoked, signals.task_received, signals.task_unknown)
    for signal in four:
        signal.connect(note)
    try:
        world.run(lambda self: self.request.retries or self.retry(countdown=0), bind=True)
        world.task(lambda: 1).apply_async(expires=-1)
        world.app.send_task("nobody.knows.this", queue="unknown")
        world.settle(lambda: len(seen) == 4)
    finally:
        for signal in four:
            signal.disconnect(note)
    assert seen["task_revoked"]["expired"] is True
    assert seen["task_received"]["request"].id
    assert seen["task_unknown"]["name"] == "nobody.knows.this"


elsewhere(
    "Signals",
    "A",
    "worker_process_init, worker_ready, worker_shutdown, worker_shutting_down",
    "tests/processes/test_stop.py",
)
elsewhere(
    "Signals", "B", "beat_init, import_modules, setup_logging, after_setup_logger", "tests/unit/beat/test_beat.py"
)

# -- settings ------------------------------------------------------------------------------------------


@row("Settings", "A", "all of Celery 5.7's 207 names, old upper-case and namespaced spellings, with its defaults")
def _(world):
    conf = Celery("s", set_as_current=False).conf
    assert conf.worker_concurrency is None
    conf.CELERYD_CONCURRENCY = 3
    assert conf["worker_concurrency"] == conf.worker_concurrency == 3
    assert timedelta(days=1) == conf.CELERY_TASK_RESULT_EXPIRES


@row("Settings", "A", "task_routes: names, globs, regular expressions, pairs, functions, router classes")
def _(world):
    def route(name, args, kwargs, options, task=None, **kw):
        return {"queue": "f"} if name.startswith("f.") else None

    app = Celery("r", set_as_current=False)
    app.conf.task_routes = (route, {"a.*": "globbed", re.compile("^b"): {"queue": "regex"}}, [("c.d", "pair")])
    from pyqs_celery.app.routes import find_route

    found = [find_route(app.routes, name, (), {}, {}).get("queue") for name in ("f.x", "a.x", "bx", "c.d", "z")]
    assert found == ["f", "globbed", "regex", "pair", None]


@row("Settings", "B", "what has no effect on SQS is told once by the worker, with what to do instead")
def _(world, caplog):
    from pyqs_celery.worker.start import tell_of_idle_settings

    with caplog.at_level(logging.INFO):
        tell_of_idle_settings(Celery("i", set_as_current=False, worker_state_db="x", broker_pool_limit=3))
    assert "worker_state_db has no effect" in caplog.text
    assert "broker_pool_limit has no effect" in caplog.text


# -- beat ----------------------------------------------------------------------------------------------

elsewhere("Beat", "A", "beat_schedule, crontab in every form, intervals, entry options", "compat_tests/test_crontab.py")
elsewhere(
    "Beat",
    "B",
    "custom Scheduler and ScheduleEntry classes, a schedule that survives a crash",
    "tests/unit/beat/test_beat.py",
)
elsewhere("Beat", "C", "solar, worker -B, one beat at a time by beat_lock_queue", "tests/processes/test_beat.py")

# -- command line --------------------------------------------------------------------------------------

elsewhere(
    "Command line", "A", "worker -A -l -c -Q -P -n -f -B --autoscale --pidfile -D --uid, exit codes", "tests/unit/bin"
)
elsewhere(
    "Command line",
    "B",
    "beat, call, purge, multi, list, report, shell, inspect registered|conf|report",
    "tests/processes/test_commands.py",
)
elsewhere(
    "Command line",
    "B",
    "inspect, control and status of workers on the same host, with Celery's output and exit codes",
    "tests/processes/test_control.py",
)
no(
    "Command line",
    "B",
    "inspect, control and status of workers on other hosts",
    "SQS has no broadcast; exit code 69 as Celery's",
)
no("Command line", "B", "events, flower", "SQS has no events; exit code 2")
no("Command line", "C", "-P gevent, eventlet as green threads", "they run as threads, and say so")
no("Command line", "C", "--autoscale that scales", "it runs the larger number of slots; scale by starting workers")

# -- frameworks ----------------------------------------------------------------------------------------

elsewhere(
    "Frameworks",
    "A",
    "Django: settings, autodiscovery, connections, delay_on_commit, manage.py pyqs_celery",
    "tests/integrations/test_django.py",
)
elsewhere("Frameworks", "B", "Flask: application context", "tests/integrations/test_flask.py")
elsewhere("Frameworks", "B", "import celery by install_as_celery()", "tests/integrations/test_alias.py")
elsewhere(
    "Frameworks",
    "B",
    "celery.contrib.pytest's fixtures, start_worker, memory://",
    "tests/integrations/test_testing_helpers.py",
)


@row("Frameworks", "C", "bootsteps: Step and StartStopStep of the worker; ConsumerStep is refused")
def _(world):
    from pyqs_celery import bootsteps

    assert issubclass(bootsteps.StartStopStep, bootsteps.Step)
    with pytest.raises(ControlUnavailable):
        world.app.control.ping()


# -- the table -----------------------------------------------------------------------------------------


def table() -> str:
    """README's table, in reStructuredText."""
    lines = [
        ".. list-table::",
        "   :header-rows: 1",
        "   :widths: 12 60 28",
        "",
        "   * - Part",
        "     - What",
        "     - Here",
    ]
    last = ""
    for each in ROWS:
        answer = "yes" if not each.reason else f"no: {each.reason}"
        part = each.section if each.section != last else ""
        last = each.section
        lines += [
            f"   * - {part}".rstrip(),
            f"     - {each.item}".replace("*", "\\*").replace("|", "\\|"),
            f"     - {answer}",
        ]
        lines[-2] = "     - " + lines[-2].strip()[2:]
    return "\n".join(lines) + "\n"


BEGIN, END = ".. compatibility table: made by python -m compat_tests.surface_rows", ".. end of the table"


def insert(readme: str) -> str:
    """README with the table of now."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n{END}{after}"


if __name__ == "__main__":
    path = Path(__file__).parents[1] / "README.rst"
    path.write_text(insert(path.read_text("utf-8")), "utf-8")
    sys.stdout.write(f"{len(ROWS)} rows\n")
