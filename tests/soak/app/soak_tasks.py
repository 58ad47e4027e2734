"""The tasks of a soak. ``declare(app)`` adds them; the older and the newer application differ by one task each."""

from __future__ import annotations

import json
import os
import signal
import time
import uuid
from pathlib import Path

from pyqs_celery import Celery, signals
from pyqs_celery.exceptions import Reject
from tests.soak.records import BEGAN, ENDED, EXPIRED, Diary, now

diary = Diary(Path(os.environ["SOAK_LINES"]), os.environ.get("SOAK_WORKER", "none"))
WORKER = os.environ.get("SOAK_WORKER", "none")


def make() -> Celery:
    app = Celery("soak", broker="sqs://test:test@", backend=os.environ["SOAK_RESULTS"], set_as_current=False)
    app.conf.update(
        broker_transport_options={"wait_time_seconds": 5, "endpoint_url": os.environ["AWS_ENDPOINT_URL_SQS"]},
        task_ignore_result=True,
        task_create_missing_queues=False,
        worker_redirect_stdouts=False,
        result_expires=3600,
    )
    app.conf.update(json.loads(os.environ.get("SOAK_SETTINGS", "{}")))
    return app


class Run:
    """One run, from its first line to its last."""

    def __init__(self, task, kind: str, *, retries: int = 0) -> None:
        request = task.request
        sqs = request.sqs
        self.task = request.id
        self.count = sqs["receive_count"]
        self.message = sqs["message_id"]
        diary.write(
            *(BEGAN, now(), request.id, kind, retries, self.message, self.count, os.getpid(), WORKER),
            *(sqs["queue"], sqs["sent_at"] or 0.0, request.parent_id or ""),
        )

    def end(self, outcome: str) -> None:
        diary.write(ENDED, now(), self.task, self.message, self.count, os.getpid(), outcome)


def nothing(self):
    Run(self, "nothing").end("ok")


def nap(self, seconds):
    run = Run(self, "nap")
    time.sleep(seconds)
    run.end("ok")


def late(self):
    """Sent with an ETA or a countdown."""
    Run(self, "late").end("ok")


def brief(self):
    """Sent with a time after which it is of no use."""
    Run(self, "brief").end("ok")


def flaky(self, times):
    """Celery's retry: each one is a new message of the same id."""
    run = Run(self, "flaky", retries=self.request.retries)
    if self.request.retries < times:
        run.end("retry")
        raise self.retry(countdown=1 if self.request.retries else 0)
    run.end("ok")
    return 1


def returning(self, times):
    """SQS's own retry: the same message comes back."""
    run = Run(self, "returning")
    if run.count <= times:
        run.end("again")
        raise self.retry(countdown=1)
    run.end("ok")


def hopeless(self):
    Run(self, "hopeless").end("fail")
    raise ValueError("it never works")


def refusing(self):
    Run(self, "refusing").end("reject")
    raise Reject("of no use", requeue=False)


def killer(self):
    Run(self, "killer")
    os.kill(os.getpid(), signal.SIGKILL)


def stumbling(self, stumbles):
    """On FIFO queues: fails at the first delivery if it is told to."""
    run = Run(self, "stumbling")
    if stumbles and run.count == 1:
        run.end("fail")
        raise ValueError("the first time never works")
    run.end("ok")


def spawning(self, queues):
    """A task that sends others, one after the other, each with an id of its own."""
    run = Run(self, "spawning")
    target = self.app.tasks["soak.nothing"]
    for queue in queues:
        child = str(uuid.uuid4())
        diary.sending(child, "nothing", queue, parent=run.task)
        target.apply_async(task_id=child, queue=queue)
        diary.sent(child)
    run.end("ok")


def member(self, value, times):
    """A chord's member; it may need a retry."""
    run = Run(self, "member", retries=self.request.retries)
    if self.request.retries < times:
        run.end("retry")
        raise self.retry(countdown=0)
    run.end("ok")
    return value


def total(self, values, expected):
    run = Run(self, "total")
    run.end("ok" if sorted(values) == expected else "wrong")


def step(self, value):
    """A link of a chain; each adds one."""
    run = Run(self, "step")
    run.end("ok")
    return value + 1


def last_step(self, value, expected):
    run = Run(self, "last_step")
    run.end("ok" if value == expected else "wrong")


def fresh(self):
    """The older application does not know it."""
    Run(self, "fresh").end("ok")


def retired(self):
    """The newer application does not know it any more."""
    Run(self, "retired").end("ok")


EVERYWHERE = (
    *(nothing, nap, late, brief, hopeless, refusing, killer, stumbling, spawning, total, step, last_step),
    *(flaky, member, returning),
)
OPTIONS = {
    "flaky": {"max_retries": 5},
    "member": {"max_retries": 5, "ignore_result": False},
    "step": {"ignore_result": False},
    "returning": {"max_retries": None, "sqs_retry": "native"},
}


def declare(app: Celery, *more) -> Celery:
    for function in (*EVERYWHERE, *more):
        name = function.__name__
        app.task(name=f"soak.{name}", bind=True, **OPTIONS.get(name, {}))(function)
    return app


@signals.task_revoked.connect
def note_expiry(request, expired, **kwargs):
    if expired:
        diary.write(EXPIRED, now(), request.id)
