"""The tasks that both sides register under the same names."""

from __future__ import annotations

import time
from datetime import date, datetime, timedelta, timezone
from datetime import time as clock
from decimal import Decimal
from uuid import UUID

from compat_tests.mixed import diary, errors

RETRY_SECONDS = 0.3
"""The first try has stored its RETRY before the second stores what came of it; with 0 either may be last."""

VALUES = {
    "none": None,
    "unicode": "é😀 \u2028",
    "nested": {"a": [1, {"b": None, "c": [True, 2.5]}], "": ""},
    "large number": 2**70,
    "datetime": datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=timezone(timedelta(hours=2))),
    "date": date(2024, 5, 6),
    "time": clock(7, 8, 9),
    "uuid": UUID("12345678123456781234567812345678"),
    "decimal": Decimal("1.10"),
    "bytes": b"text",
    "binary": b"\x00\xff",
    "tuple": (1, (2, 3)),
    "set": {1, 2},
}

FAILURES = {
    "builtin": lambda: ValueError("boom", 3),
    "custom": lambda: errors.OutOfStockError("shoes", {"left": 0}),
    "nested class": lambda: errors.Shop.ClosedError("sunday"),
    "opaque arguments": lambda: ValueError("boom", errors.Opaque()),
    "picky": lambda: errors.PickyError(code=7),
    "foreign": lambda: errors.foreign("gone"),
    "homeless": lambda: errors.homeless("gone"),
    "coded": lambda: errors.CodedError("boom", code=7),
    "key": lambda: KeyError("k"),
}


def ids(request):
    return {
        "id": request.id,
        "root": request.root_id,
        "parent": request.parent_id,
        "group": request.group,
        "index": request.group_index,
    }


def declare(app, lib):  # noqa: C901, PLR0915 - a list of tasks
    exceptions = lib.exceptions

    def task(called, **options):
        return app.task(name=f"mixed.{called}", **options)

    def sign(name, *args, queue=None, **kwargs):
        return app.signature(f"mixed.{name}", args=args, kwargs=kwargs, **({"queue": queue} if queue else {}))

    # -- values ------------------------------------------------------------------------------------

    @task("add")
    def add(x, y):
        return x + y

    @task("total")
    def total(values, more=0):
        return sum(values) + more

    @task("echo")
    def echo(value):
        return value

    @task("fixed")
    def fixed(value=None):
        return value

    @task("late")
    def late(value):
        time.sleep(0.3)
        return value

    @task("value")
    def value(name):
        return VALUES[name]

    @task("quiet", ignore_result=True)
    def quiet(token):
        diary.write(token, "quiet")
        return "never stored"

    # -- failures and ends that are none -----------------------------------------------------------

    @task("fail")
    def fail(name, *_):
        error = FAILURES[name]()
        raise error

    @task("fail_if")
    def fail_if(number, at):
        if number == at:
            raise ValueError(f"{number} is wrong")
        return number

    @task("endless", bind=True, max_retries=1, default_retry_delay=RETRY_SECONDS)
    def endless(self, cause=None):
        raise self.retry(exc=FAILURES[cause]() if cause else None)

    @task("flaky", bind=True, max_retries=5)
    def flaky(self, value=None, times=2):
        if self.request.retries < times:
            raise self.retry(countdown=RETRY_SECONDS)
        return [value, self.request.retries]

    @task("automatic", bind=True, autoretry_for=(KeyError,), max_retries=2, default_retry_delay=RETRY_SECONDS)
    def automatic(self, times):
        if self.request.retries < times:
            raise KeyError(self.request.retries)
        return self.request.retries

    @task("ignored", bind=True)
    def ignored(self, token):
        self.update_state(state="HELD", meta={"by": "hand"})
        diary.write(token, "ran")
        raise exceptions.Ignore

    @task("rejected")
    def rejected(token):
        diary.write(token, "ran")
        raise exceptions.Reject("not today", requeue=False)

    @task("slow")
    def slow(seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(0.05)

    @task("staged", bind=True, track_started=True)
    def staged(self, token):
        diary.wait(token, "go on", 1, 15)
        self.update_state(state="PROGRESS", meta={"done": 40, "of": 100})
        diary.wait(token, "finish", 1, 15)
        return "all"

    @task("joins")
    def joins(other):
        return lib.result.AsyncResult(other, app=app).get(timeout=5)

    # -- what a task sees --------------------------------------------------------------------------

    @task("see", bind=True)
    def see(self, value, token, step):
        diary.write(token, step, **ids(self.request))
        return value

    @task("headers", bind=True)
    def headers(self, value, token, step):
        diary.write(token, step, headers=self.request.headers, tenant=self.request.get("tenant"))
        return value

    @task("stamps", bind=True)
    def stamps(self, value, token, step):
        request = self.request
        diary.write(token, step, headers=sorted(request.stamped_headers or []), stamps=request.stamps)
        return value

    @task("calls", bind=True)
    def calls(self, token, queue):
        diary.write(token, "outer", **ids(self.request))
        for name in ("first", "second"):
            sign("see", name, queue=queue, token=token, step=name).apply_async()
        return "called"

    @task("note")
    def note(value, *, token):
        diary.write(token, "note", value=value)
        return value

    # -- errbacks ----------------------------------------------------------------------------------

    @task("told_id")
    def told_id(task_id, *, token):
        diary.write(token, "told id", id=task_id)
        return "told"

    @task("told_failure")
    def told_failure(request, exc, traceback, *, token):
        diary.write(
            token,
            "told failure",
            id=request.id,
            error=type(exc).__name__,
            text=str(exc),
            traceback="Traceback" in str(traceback),
        )

    # -- tasks that change what they are part of -----------------------------------------------------

    @task("swap", bind=True)
    def swap(self, value, kind, queues):
        first, second, third = (queues or [None, None, None])[:3]
        plain = sign("add", value, 100, queue=first)
        members = [sign("add", value, 10, queue=first), sign("add", value, 20, queue=second)]
        replacement = {
            "task": lambda: plain,
            "chain": lambda: plain | sign("add", 1000, queue=second),
            "group": lambda: lib.group(members),
            "chord": lambda: lib.chord(members, sign("total", queue=third)),
        }[kind]
        return self.replace(replacement())

    @task("grow", bind=True)
    def grow(self, value, queue):
        self.add_to_chord(sign("echo", value * 10, queue=queue))
        return value
