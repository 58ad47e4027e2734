"""What a task's decorator takes: options, base classes, pydantic, async, and retries left to SQS."""

from __future__ import annotations

import asyncio
import warnings

import pydantic
import pytest

from pyqs_celery import Celery, Task, chain
from pyqs_celery.app import trace
from pyqs_celery.exceptions import CeleryWarning, DuplicateTaskNameWarning, ImproperlyConfigured, SoftTimeLimitExceeded
from pyqs_celery.execution import execute
from pyqs_celery.utils import aio


def run(app, sent, *, receive_count=1, queue="celery"):
    """Run the one message that waits, as a child would."""
    [message] = sent(queue)
    return execute(
        app,
        message,
        sqs={"message_id": "m", "receive_count": receive_count, "logical": queue},
        hostname="w@h",
        last_delivery=False,
    )


# -- options -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("typo", "meant"), [("max_retry", "max_retries"), ("retry_backof", "retry_backoff")])
def test_a_misspelt_option_is_told_and_kept(app, typo, meant):
    with pytest.warns(CeleryWarning, match=meant):

        @app.task(lazy=False, **{typo: 3})
        def job():
            pass

    assert getattr(job, typo) == 3


def test_options_of_an_applications_own_are_no_typos(app):
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        @app.task(lazy=False, monitors=["a"], early_log_level=10)
        def job():
            pass

    assert job.monitors == ["a"]


def test_two_functions_of_one_name_are_told_and_the_first_stays(app):
    @app.task(name="same", lazy=False)
    def first():
        return 1

    with pytest.warns(DuplicateTaskNameWarning, match="same"):

        @app.task(name="same", lazy=False)
        def second():
            return 2

    assert second() == 1


def test_settings_stand_where_a_task_says_nothing(app):
    app.conf.update(task_default_rate_limit="7/m", task_track_started=True, task_serializer="yaml")

    @app.task
    def job():
        pass

    assert (job.rate_limit, job.track_started, job.serializer) == ("7/m", True, "yaml")


@pytest.mark.parametrize("options", [{"rate_limit": "fast"}, {"sqs_retry": "sometimes"}])
def test_values_that_make_no_sense_are_refused_when_the_task_is_made(app, options):
    with pytest.raises(ImproperlyConfigured):
        app.task(lazy=False, **options)(lambda: None)


def test_a_class_based_task_has_its_hooks_and_its_check_of_arguments(app, sent):
    calls = []

    class Adder(Task):
        name = "adder"

        def run(self, x, y):
            calls.append(("run", x, y))
            return x + y

        def on_success(self, retval, task_id, args, kwargs):
            calls.append(("on_success", retval))

    adder = app.register_task(Adder())
    with pytest.raises(TypeError, match="missing"):
        adder.delay(1)
    adder.delay(1, y=2)

    assert run(app, sent).kind == "succeeded"
    assert calls == [("run", 1, 2), ("on_success", 3)]


def test_a_class_based_task_retries_by_itself(app, sent):
    class Flaky(Task):
        name = "flaky"
        autoretry_for = (KeyError,)

        def run(self):
            raise KeyError("again")

    app.register_task(Flaky).delay()

    assert run(app, sent).kind == "retried"


def test_an_apps_own_base_class_reaches_later_tasks(app):
    class Base(app.Task):
        abstract = True
        flavour = "ours"

    app.Task = Base

    @app.task
    def job():
        pass

    assert job.flavour == "ours"
    assert isinstance(job._get_current_object(), Base)


def test_a_task_class_by_its_dotted_name(broker):
    app = Celery("x", broker=broker, task_cls="pyqs_celery.contrib.django.task:DjangoTask", set_as_current=False)

    @app.task
    def job():
        pass

    assert hasattr(job, "delay_on_commit")


def test_eager_arguments_go_through_the_serializer(app):
    app.conf.task_always_eager = True

    @app.task
    def kind(value):
        return type(value).__name__

    assert kind.delay((1, 2)).get() == "list"


# -- replace -------------------------------------------------------------------------------------------


def test_replace_sends_another_task_in_this_ones_place(app, sent):
    @app.task(name="other")
    def other(x):
        return x

    @app.task(name="first", bind=True)
    def first(self):
        raise self.replace(other.s(5))

    first.apply_async(task_id="the-id", link=other.si(9))

    assert run(app, sent).kind == "ignored"
    [message] = sent()
    assert (message.task, message.id, message.args) == ("other", "the-id", [5])
    assert message.callbacks[0]["args"] in ([9], (9,))
    assert message.replaced_task_nesting == 1


def test_replace_refuses_a_chain_without_steps(app, sent):
    @app.task(name="first", bind=True)
    def first(self):
        raise self.replace(chain())

    first.delay()

    outcome = run(app, sent)
    assert (outcome.kind, outcome.exception) == ("failed", "ImproperlyConfigured")


def test_add_to_chord_needs_a_chord(app):
    @app.task(bind=True)
    def job(self):
        self.add_to_chord(job.s())

    with pytest.raises(ValueError, match="not member of any chord"):
        job()


# -- native retries ------------------------------------------------------------------------------------


def test_a_native_retry_sends_nothing_and_gives_the_message_back(app, sent):
    @app.task(name="job", bind=True, sqs_retry="native", max_retries=None)
    def job(self):
        self.retry(countdown=90)

    job.delay()

    outcome = run(app, sent)
    assert (outcome.kind, outcome.native_delay) == ("retried", 90)
    assert sent() == []


def test_receipts_are_the_retries_of_a_native_retry(app, sent):
    seen = []

    @app.task(name="job", bind=True, max_retries=2)
    def job(self):
        seen.append(self.request.retries)
        self.retry(exc=KeyError("k"))

    app.conf.sqs_retry = "native"
    job.delay()

    outcome = run(app, sent, receive_count=4)
    assert seen == [3]
    assert (outcome.kind, outcome.exhausted) == ("failed", True)


@pytest.mark.parametrize("how", ["the task", "the setting", "the mode"])
def test_where_messages_are_deleted_early_a_native_retry_is_sent_all_the_same(app, sent, how):
    app.conf.update(
        task_acks_late=False if how == "the setting" else None, sqs_delivery="celery" if how == "the mode" else "pyqs"
    )
    early = False if how == "the task" else None

    @app.task(name="job", bind=True, sqs_retry="native", acks_late=early)
    def job(self):
        self.retry(countdown=0)

    job.delay()

    assert run(app, sent).native_delay is None
    [message] = sent()
    assert message.retries == 1


def test_a_native_retry_beyond_what_sqs_can_hide_is_sent(app, sent):
    @app.task(name="job", bind=True, sqs_retry="native")
    def job(self):
        self.retry(countdown=100_000)

    job.delay()

    assert run(app, sent).native_delay is None
    assert app.publisher() is not None


def run_on_fifo(app, sent, **facts):
    [message] = sent("orders.fifo")
    sqs = {"message_id": "m", "receive_count": 1, "logical": "orders.fifo", "queue": "orders.fifo", **facts}
    return execute(app, message, sqs=sqs, hostname="w@h", last_delivery=False)


def test_on_a_fifo_queue_a_retry_keeps_its_place_unless_somebody_says_otherwise(app, sent):
    seen = []

    @app.task(name="job", bind=True, max_retries=2, queue="orders.fifo")
    def job(self):
        seen.append(self.request.retries)
        self.retry(countdown=3)

    job.delay()
    outcome = run_on_fifo(app, sent, receive_count=3, unrun_count=1)
    assert (outcome.kind, outcome.native_delay, seen) == ("retried", 3, [1])
    assert sent("orders.fifo") == []

    app.conf.sqs_retry = "message"
    job.apply_async(MessageGroupId="another")
    outcome = run_on_fifo(app, sent)
    assert (outcome.kind, outcome.native_delay, seen) == ("retried", None, [1, 0])


def test_at_the_last_receipt_that_sqs_allows_a_native_retry_is_a_failure(app, sent):
    @app.task(name="job", bind=True, max_retries=None, queue="orders.fifo")
    def job(self):
        self.retry(exc=KeyError("k"))

    job.delay()

    outcome = run_on_fifo(app, sent, receive_count=3, max_receive_count=3)
    assert (outcome.kind, outcome.exhausted, outcome.exception) == ("failed", True, "KeyError")


def test_waiting_for_a_chord_never_blocks_a_group(app):
    """Parts of the chord may be behind it in its group."""
    assert app.tasks["celery.chord_unlock"].sqs_retry == "message"


# -- pydantic ------------------------------------------------------------------------------------------


class Order(pydantic.BaseModel):
    number: int


class Receipt(pydantic.BaseModel):
    total: int


def test_models_arrive_as_models_and_leave_as_data(app, sent):
    got = []

    @app.task(name="buy", pydantic=True)
    def buy(order: Order, note: str, other: Order | None = None) -> Receipt:
        got.append((order, note, other))
        return Receipt(total=order.number * 2)

    buy.delay(Order(number=4), "a", other=None)
    assert run(app, sent).kind == "succeeded"
    assert got == [(Order(number=4), "a", None)]
    assert buy.apply(({"number": "3"}, "b")).get() == {"total": 6}


def test_what_is_no_model_fails_the_task(app, sent):
    @app.task(name="buy", pydantic=True)
    def buy(order: Order):
        return order.number

    buy.delay({"number": "many"})

    assert run(app, sent).exception == "ValidationError"


def test_a_bound_task_may_have_models_too(app):
    @app.task(name="buy", bind=True, pydantic=True)
    def buy(self, order: Order):
        return (self.name, order.number)

    assert buy.apply(({"number": 1},)).get() == ("buy", 1)


# -- async ---------------------------------------------------------------------------------------------


def test_async_tasks_share_one_loop_and_see_their_request(app):
    @app.task(name="where", bind=True)
    async def where(self):
        await asyncio.sleep(0)
        return id(asyncio.get_running_loop()), self.request.id

    results = [where.apply(task_id=f"id-{number}").get() for number in range(3)]

    assert len({loop for loop, _ in results}) == 1
    assert [task_id for _, task_id in results] == ["id-0", "id-1", "id-2"]


def test_an_eager_async_task_inside_a_running_loop(app):
    @app.task
    async def job(x):
        await asyncio.sleep(0)
        return x

    async def view():
        return job.apply((3,)).get()

    assert asyncio.run(view()) == 3


def test_async_tasks_retry_by_themselves(app, sent):
    @app.task(name="job", autoretry_for=(KeyError,))
    async def job():
        raise KeyError("k")

    job.delay()

    assert run(app, sent).kind == "retried"


def test_a_limit_is_raised_where_a_coroutine_waits():
    seen = []

    async def waits():
        try:
            await asyncio.Event().wait()
        except SoftTimeLimitExceeded as exc:
            seen.append(exc)
            await asyncio.sleep(0)
            return "tidied up"

    loop = aio.thread_loop()
    loop.call_later(0.01, lambda: loop.call_soon(lambda: None))
    # a signal handler runs between two steps of the loop, as this callback does
    loop.call_later(0.02, lambda: aio.interrupt(SoftTimeLimitExceeded(1)))

    assert aio.run(waits()) == "tidied up"
    assert len(seen) == 1


def test_no_coroutine_waits_no_interruption():
    assert aio.interrupt(SoftTimeLimitExceeded(1)) is False


# -- the seam for instrumentation ----------------------------------------------------------------------


def test_whatever_build_tracer_is_takes_part_in_every_run(app, sent, monkeypatch):
    calls = []
    original = trace.build_tracer

    def wrapped(name, task, *args, **kwargs):
        inner = original(name, task, *args, **kwargs)

        def tracer(*call):
            calls.append((name, call[0], call[3].get("retries")))
            return inner(*call)

        return tracer

    @app.task(name="job")
    def job():
        return 1

    job.apply_async(task_id="i1")
    monkeypatch.setattr(trace, "build_tracer", wrapped)

    assert run(app, sent).kind == "succeeded"
    assert calls == [("job", "i1", 0)]


def test_custom_calls_are_found(app):
    class Base(Task):
        abstract = True

        def __call__(self, *args, **kwargs):
            return super().__call__(*args, **kwargs)

    @app.task(base=Base)
    def own():
        pass

    @app.task
    def plain():
        pass

    assert trace.task_has_custom(own, "__call__")
    assert not trace.task_has_custom(plain, "__call__")
