"""One task at a time: values, failures, retries, states, options of a call, what its result knows."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from compat_tests.mixed.table import ALL_STORES, behaviour, gives, raises

EVERYWHERE = {"stores": ALL_STORES[1:], "kinds": ("plain", "pickle", "packed")}

# -- values ------------------------------------------------------------------------------------------


@behaviour(gives(5, "add"), **EVERYWHERE)
def delay_and_get(ask):
    if not (to := ask.to()):
        return ask.task("add").delay(2, 3)
    return ask.task("add").apply_async((2, 3), **to)


@behaviour(gives("ab", "add"))
def keyword_arguments(ask):
    return ask.task("add").apply_async(kwargs={"x": "a", "y": "b"}, **ask.to())


@behaviour(gives(5, "add"))
def sent_by_name(ask):
    return ask.app.send_task("mixed.add", (2, 3), **ask.to())


@behaviour(gives(5, "add", id="own"))
def own_task_id(ask):
    known = f"{ask.token}-own"
    result = ask.task("add").apply_async((2, 3), task_id=known, **ask.to())
    yield result
    yield {**ask.outcome(result), "id": "own" if result.id == known else result.id}


def _values():
    expected = {
        "none": None,
        "unicode": "é😀 \u2028",
        "nested": {"a": [1, {"b": None, "c": [True, 2.5]}], "": ""},
        "large number": 2**70,
        "datetime": "datetime:2024-05-06T07:08:09.123456+02:00",
        "date": "date:2024-05-06",
        "time": "time:07:08:09",
        "uuid": "UUID:<id>",
        "decimal": "Decimal:1.10",
        "bytes": "bytes:74657874",
        "binary": "bytes:00ff",
        "tuple": [1, [2, 3]],
    }
    for name, value in expected.items():

        def send(ask, name=name):
            return ask.s("value", name).apply_async()

        options = EVERYWHERE if name in {"nested", "datetime", "binary"} else {}
        behaviour(gives(value, "value"), name=f"value-{name.replace(' ', '-')}", **options)(send)


_values()


@behaviour(gives("set:[1, 2]", "value"), name="value-set", kinds=("pickle",))
def value_set(ask):
    return ask.s("value", "set").apply_async()


@behaviour(
    raises("kombu.exceptions.EncodeError", "TypeError('Object of type set is not JSON serializable')", tree="value!")
)
def value_that_json_cannot_write(ask):
    return ask.s("value", "set").apply_async()


@behaviour({"value": None, "state": "PENDING", "ran": 1}, stores=ALL_STORES[1:])
def result_ignored_by_the_call(ask):
    result = ask.s("note", 1, token=ask.token).apply_async(ignore_result=True)
    yield result
    yield {**ask.get(result, seconds=3), "state": ask.fresh(result).state, "ran": len(ask.seen("note"))}


@behaviour({"ran": 1, "state": "PENDING"})
def result_ignored_by_the_task(ask):
    result = ask.s("quiet", ask.token).apply_async()
    yield result
    yield {"ran": len(ask.seen("quiet")), "state": ask.fresh(result).state}


@behaviour(gives(3, "add", after="PENDING", gone="PENDING"), stores=ALL_STORES[1:])
def forgotten(ask):
    result = ask.s("add", 1, 2).apply_async()
    yield result
    found = ask.outcome(result)
    fresh = ask.fresh(result)
    result.forget()
    yield {**found, "after": result.state, "gone": fresh.state}


@behaviour({"before": False, "after": True, "value": 3}, since=(5, 7), stores=ALL_STORES[1:])
def exists(ask):
    result = ask.s("add", 1, 2).apply_async()
    yield result
    found = ask.get(result)
    yield {**found, "after": result.exists(), "before": ask.app.AsyncResult("never-sent").exists()}


@behaviour(
    gives(3, "add", name="mixed.add", args=[1], kwargs={"y": 2}, retries=0, queue=True, worker=True, done="datetime"),
    stores=ALL_STORES[1:],
    kinds=("plain", "pickle", "packed"),
)
def extended_result(ask):
    queue = ask.queue()
    result = ask.task("add").apply_async((1,), {"y": 2}, **({"queue": queue} if queue else {}))
    yield result
    found = ask.outcome(result)
    yield {
        **found,
        "name": result.name,
        "args": result.args,
        "kwargs": result.kwargs,
        "retries": result.retries,
        "queue": result.queue == (queue or ask.app.conf.task_default_queue),
        "worker": "@" in (result.worker or ""),
        "done": type(result.date_done).__name__,
    }


WRAPPER = "utils.serialization.UnpickleableExceptionWrapper"

# -- failures ----------------------------------------------------------------------------------------


def _failures():
    expected = {
        "builtin": ("ValueError", "boom", 3),
        "custom": ("errors.OutOfStockError", "shoes", {"left": 0}),
        "nested class": ("errors.Shop.ClosedError", "sunday"),
        "opaque arguments": ("ValueError", "boom", "<opaque>"),
        "foreign": ("ForeignError", "gone"),
        "key": ("KeyError", "k"),
        "homeless": (WRAPPER, "of_no_module", "HomelessError", ["gone"], "HomelessError('gone')"),
        # It takes no positional argument, so neither a pickle nor a reader could make it again.
        "picky": (WRAPPER, "compat_tests.mixed.errors", "PickyError", [], "PickyError()"),
    }
    for name, (error, *args) in expected.items():

        def send(ask, name=name):
            return ask.s("fail", name).apply_async()

        options = EVERYWHERE if name in {"builtin", "custom"} else {}
        behaviour(raises(error, *args, tree="fail!"), name=f"failure-{name.replace(' ', '-')}", **options)(send)


_failures()


@behaviour(raises("errors.CodedError", "boom", tree="fail!", code=7), kinds=("pickle",))
def failure_with_its_attributes(ask):
    result = ask.s("fail", "coded").apply_async()
    yield result
    yield {**ask.outcome(result), "code": getattr(result.result, "code", None)}


@behaviour({"returned": {"error": "ValueError", "args": ["boom", 3]}, "traceback": True, "failed": True})
def failure_not_propagated(ask):
    result = ask.s("fail", "builtin").apply_async()
    yield result
    found = ask.get(result, propagate=False)
    yield {"returned": found.get("value"), "traceback": "ValueError" in result.traceback, "failed": result.failed()}


@behaviour({"error": "RuntimeError", "begins": "Never call result.get() within a task!", "state": "FAILURE"})
def get_inside_a_task(ask):
    result = ask.s("joins", "some-id").apply_async()
    yield result
    found = ask.get(result)
    # What follows is advice, and ours differs.
    yield {"error": found.get("error"), "begins": str(*found.get("args", ()))[:38], "state": result.state}


@behaviour(raises("TypeError", "declare.<locals>.add() missing 1 required positional argument: 'y'", tree="add!"))
def wrong_arguments(ask):
    return ask.app.send_task("mixed.add", (1,), **ask.to())


@behaviour(raises("SoftTimeLimitExceeded", tree="slow!"))
def soft_time_limit(ask):
    return ask.s("slow", 6).apply_async(soft_time_limit=1)


@behaviour(raises("TimeLimitExceeded", 1, tree="slow!"))
def time_limit(ask):
    return ask.s("slow", 6).apply_async(time_limit=1)


# -- retries and states ------------------------------------------------------------------------------


@behaviour(gives([9, 2], "flaky", retries=2), stores=ALL_STORES[1:])
def retried_then_done(ask):
    result = ask.s("flaky", 9).apply_async()
    yield result
    yield {**ask.outcome(result), "retries": result.retries}


@behaviour(
    raises("MaxRetriesExceededError", "Can't retry mixed.endless[<id>] args:() kwargs:{}", tree="endless!"),
    stores=ALL_STORES[1:],
)
def retries_used_up(ask):
    return ask.s("endless").apply_async()


@behaviour(raises("errors.OutOfStockError", "shoes", {"left": 0}, tree="endless!"))
def retries_used_up_with_a_cause(ask):
    return ask.s("endless", "custom").apply_async()


@behaviour(gives(2, "automatic"))
def retried_automatically(ask):
    return ask.s("automatic", 2).apply_async()


@behaviour(raises("KeyError", 2, tree="automatic!"))
def automatic_retries_used_up(ask):
    return ask.s("automatic", 5).apply_async()


@behaviour({"ran": 1, "state": "HELD", "info": {"by": "hand"}}, stores=ALL_STORES[1:])
def ignored(ask):
    result = ask.s("ignored", ask.token).apply_async()
    yield result
    yield {"ran": len(ask.seen("ran")), "state": ask.fresh(result).state, "info": result.info}


@behaviour(
    {"ran": 1, "state": "FAILURE"},
    before=((5, 7), {"ran": 1, "state": "PENDING"}, "a rejected task's result stayed as it was"),
)
def rejected(ask):
    result = ask.s("rejected", ask.token).apply_async()
    yield result
    ran = len(ask.seen("ran"))
    ask.until(result.ready, seconds=2)
    yield {"ran": ran, "state": result.state}


@behaviour(
    gives("all", "staged", started=["hostname", "pid"], progress={"done": 40, "of": 100}),
    first=True,
    stores=ALL_STORES[1:],
)
def started_and_progress(ask):
    result = ask.s("staged", ask.token).apply_async()
    yield result
    ask.until(lambda: result.state == "STARTED")
    started = sorted(result.info or ())
    ask.note("go on")
    ask.until(lambda: result.state == "PROGRESS")
    progress = result.info
    ask.note("finish")
    yield {**ask.outcome(result), "started": started, "progress": progress}


@behaviour(
    {"error": "TaskRevokedError", "args": ["expired"], "state": "REVOKED", "tree": "add:REVOKED"}, stores=ALL_STORES[1:]
)
def expired(ask):
    return ask.s("add", 1, 2).apply_async(expires=datetime.now(timezone.utc) - timedelta(minutes=1))


@behaviour(gives(3, "add"))
def not_expired(ask):
    return ask.s("add", 1, 2).apply_async(expires=600)


@behaviour(gives(3, "add"))
def countdown(ask):
    return ask.s("add", 1, 2).apply_async(countdown=1)


# -- links and errbacks ------------------------------------------------------------------------------


@behaviour(gives(3, "add(note)", seen=[3]), stores=ALL_STORES[1:])
def link(ask):
    result = ask.s("add", 1, 2).apply_async(link=ask.s("note", token=ask.token))
    yield result
    yield {**ask.outcome(result), "seen": [entry["value"] for entry in ask.seen("note")]}


@behaviour(gives(3, "add([note, add(note)])", seen=[3, 13]))
def link_list_and_link_of_a_link(ask):
    second = ask.s("add", 10)
    second.link(ask.s("note", token=ask.token))
    result = ask.s("add", 1, 2).apply_async(link=[ask.s("note", token=ask.token), second])
    yield result
    yield {**ask.outcome(result), "seen": sorted(entry["value"] for entry in ask.seen("note", 2))}


@behaviour(gives(3, "add(add(note))", seen=[103]))
def link_is_a_chain(ask):
    result = ask.s("add", 1, 2).apply_async(link=ask.s("add", 100) | ask.s("note", token=ask.token))
    yield result
    seen = [entry["value"] for entry in ask.seen("note")]
    yield {**ask.outcome(result), "seen": seen}


@behaviour({"seen": [1], "state": "SUCCESS"})
def link_of_a_retried_task(ask):
    result = ask.s("flaky", 1, times=1).apply_async(link=ask.si("note", 1, token=ask.token))
    yield result
    ask.get(result)
    yield {"seen": [entry["value"] for entry in ask.seen("note")], "state": result.state}


@behaviour(raises("ValueError", "boom", 3, tree="fail!", told="the id"), stores=ALL_STORES[1:])
def errback_told_the_id(ask):
    result = ask.s("fail", "builtin").apply_async(link_error=ask.s("told_id", token=ask.token))
    yield result
    found = ask.outcome(result)
    told = ask.told("told id")
    yield {**found, "told": "the id" if [entry["id"] for entry in told] == [result.id] else plain_list(told)}


@behaviour(raises("ValueError", "boom", 3, tree="fail!", told=["the id", "ValueError", "('boom', 3)", True]))
def errback_told_the_failure(ask):
    result = ask.s("fail", "builtin").apply_async(link_error=ask.s("told_failure", token=ask.token))
    yield result
    found = ask.outcome(result)
    yield {**found, "told": failure_told(ask, result)}


@behaviour({"error": "KeyError", "args": ["k"], "told": [1, 1]})
def two_errbacks(ask):
    sig = ask.s("fail", "key").on_error(ask.s("told_id", token=ask.token))
    sig.link_error(ask.s("told_failure", token=ask.token))
    result = sig.apply_async()
    yield result
    yield {**ask.get(result), "told": [len(ask.told("told id")), len(ask.told("told failure"))]}


@behaviour(
    {"told": 1, "state": "PENDING"},
    before=((5, 6), {"told": 1, "state": "FAILURE"}, "the failure was stored all the same"),
)
def errback_of_an_ignored_result(ask):
    errback = ask.s("told_failure", token=ask.token)
    result = ask.s("fail", "builtin").apply_async(ignore_result=True, link_error=errback)
    yield result
    yield {"told": len(ask.told("told failure")), "state": ask.fresh(result).state}


def plain_list(entries):
    return [{key: str(value) for key, value in entry.items() if key in {"event", "id"}} for entry in entries]


def failure_told(ask, result, number=1):
    """What the new kind of errback was given, the id in words."""
    entries = ask.told("told failure", number)
    if not entries:
        return None
    first = entries[0]
    return ["the id" if first["id"] == result.id else first["id"], first["error"], first["text"], first["traceback"]]


# -- what a task sees --------------------------------------------------------------------------------


@behaviour(
    {"headers": {"tenant": "a"}, "tenant": "a", "value": 1},
)
def custom_headers(ask):
    result = ask.s("headers", 1, ask.token, "only").apply_async(headers={"tenant": "a"})
    yield result
    found = ask.get(result)
    seen = (ask.seen("only") or [{}])[0]
    yield {**found, **seen}


@behaviour(
    gives(
        "called",
        "calls(see, see)",
        families={
            "outer": ["root=outer parent=None group=None index=None"],
            "first": ["root=outer parent=outer group=None index=None"],
            "second": ["root=outer parent=outer group=None index=None"],
        },
    ),
    stores=ALL_STORES[1:],
)
def tasks_called_inside_a_task(ask):
    outer = ask.s("calls", ask.token)
    outer.args = (*outer.args, ask.queue())
    result = outer.apply_async()
    yield result
    yield {**ask.outcome(result), "families": ask.families(outer=1, first=1, second=1)}
