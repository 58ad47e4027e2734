"""One task for each way in which a run can end, three times: acks_late as the settings have it, False and True."""

import os
import signal

from proj import write

from pyqs_celery import Celery
from pyqs_celery.exceptions import Ignore, Reject

app = Celery("matrix", broker="sqs://", worker_redirect_stdouts=False)
app.conf.broker_transport_options = {"wait_time_seconds": 1}


def succeed(self, key):
    write("run", key)


def fail(self, key):
    write("run", key)
    raise ValueError(key)


def retry(self, key):
    write("run", key)
    if not self.request.retries:
        raise self.retry(countdown=0)


def ignore(self, key):
    write("run", key)
    raise Ignore


def reject_requeue(self, key):
    write("run", key)
    raise Reject("back", requeue=True)


def reject(self, key):
    write("run", key)
    raise Reject("away", requeue=False)


def die(self, key):
    write("run", key)
    os.kill(os.getpid(), signal.SIGKILL)


def overrun(self, key):
    write("run", key)
    while True:
        signal.pause()


KINDS = {
    "succeed": (succeed, {}),
    "fail": (fail, {}),
    "fail-unacked": (fail, {"acks_on_failure_or_timeout": False}),
    "fail-acked": (fail, {"acks_on_failure_or_timeout": True}),
    "retry": (retry, {}),
    "ignore": (ignore, {}),
    "reject-requeue": (reject_requeue, {}),
    "reject": (reject, {}),
    "lost": (die, {}),
    "lost-rejected": (die, {"reject_on_worker_lost": True}),
    "lost-acked": (die, {"reject_on_worker_lost": False}),
    "soft-limit": (overrun, {"soft_time_limit": 0.2}),
    "hard-limit": (overrun, {"time_limit": 1}),
    "hard-limit-acked": (overrun, {"time_limit": 1, "acks_on_failure_or_timeout": True}),
    "expired": (succeed, {}),
}
LATE = {"unset": None, "early": False, "late": True}
for kind, (function, options) in KINDS.items():
    for how, acks_late in LATE.items():
        app.task(name=f"{kind}.{how}", bind=True, acks_late=acks_late, **options)(function)
