"""The application that process tests run: its tasks write into a diary what happens to them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import signal
import stat
import time

from pyqs_celery import Celery, signals
from pyqs_celery.backends.keyvalue import KeyValueStoreBackend
from pyqs_celery.exceptions import Reject, SoftTimeLimitExceeded

app = Celery("proj", broker="sqs://", worker_redirect_stdouts=False)
# short polls, so that a worker's stop does not wait long for an open one
app.conf.broker_transport_options = {"wait_time_seconds": 1}
if os.environ.get("PROJ_CONF"):
    app.conf.update(json.loads(os.environ["PROJ_CONF"]))


class BrokenBackend(KeyValueStoreBackend):
    """A result store that cannot be read."""

    def get(self, key):
        raise OSError("no route to the store")


def write(event, key, **facts):
    line = json.dumps({"event": event, "key": key, "pid": os.getpid(), "at": time.time(), **facts}) + "\n"
    descriptor = os.open(os.environ["DIARY"], os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, line.encode())
    os.close(descriptor)


@app.task
def note(key):
    write("run", key)


@app.task
def relay(key, queue):
    """Send a note to another queue."""
    write("run", key)
    note.apply_async((f"{key} relayed",), queue=queue)


@app.task
def pass_on(key, queue):
    """Send a task from a task."""
    note.apply_async((key,), queue=queue)


@app.task
def doze(key, seconds):
    time.sleep(seconds)
    write("run", key)


@app.task
def grind(key, rounds):
    """Work: twenty thousand rounds take some hundredths of a second."""
    write("start", key)
    hashlib.pbkdf2_hmac("sha256", b"password", b"salt", rounds)
    write("end", key)


@app.task
def pass_gate(key, gate):
    """Wait until somebody opens the named pipe ``gate`` for writing."""
    write("start", key)
    with open(gate) as pipe:  # noqa: PTH123 - reads better than a Path
        pipe.read()
    write("end", key)


@app.task
def wait_for(key, path):
    """Wait until there is a file ``path``."""
    write("start", key)
    while not os.path.exists(path):  # noqa: PTH110 - reads better than a Path
        time.sleep(0.02)
    write("end", key)


@app.task(bind=True, max_retries=1)
def retry_once(self, key):
    write("run", key, retries=self.request.retries)
    if not self.request.retries:
        raise self.retry(countdown=0)


@app.task(bind=True, max_retries=5)
def take_turn(self, key, seconds, trouble=None, mark=None):
    """Work for a while. ``trouble``: the first time (there is no file ``mark``) it fails, or is retried."""
    first = trouble is not None and not os.path.exists(mark)  # noqa: PTH110
    write("start", key, retries=self.request.retries)
    time.sleep(seconds)
    if first:
        with open(mark, "w"):  # noqa: PTH123
            pass
        if trouble == "retry":
            raise self.retry(countdown=0)
        raise ValueError(key)
    write("end", key)


@app.task
def fail(key):
    write("run", key)
    raise ValueError(f"no luck with {key}")


@app.task(bind=True, max_retries=2, default_retry_delay=0)
def fail_and_retry(self, key):
    write("run", key, retries=self.request.retries)
    self.retry(exc=ValueError("again"))


@app.task(bind=True, sqs_retry="native", max_retries=None)
def retry_natively(self, key):
    write("run", key, retries=self.request.retries, message=self.request.sqs["message_id"])
    self.retry(countdown=1)


@app.task
def kill_own_process(key):
    write("run", key)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def reject(key, requeue):
    write("run", key)
    raise Reject("not now", requeue=requeue)


@app.task(soft_time_limit=0.2)
def slow_but_told(key):
    write("start", key)
    try:
        signal.pause()
    except SoftTimeLimitExceeded:
        write("told", key)


@app.task(bind=True)
def report_request(self, key):
    request = self.request
    write(
        "run",
        key,
        queue=request.sqs["queue"],
        receive_count=request.sqs["receive_count"],
        group=request.sqs["group_id"],
    )


@app.task(bind=True, max_retries=1, message_group_id="header:tenant")
def go_every_way(self, key, way):
    """Be sent again as a retry, or become a dead letter."""
    write("run", key, group=self.request.sqs["group_id"], retries=self.request.retries)
    if way == "retry" and not self.request.retries:
        raise self.retry(countdown=0)
    if way == "reject":
        raise Reject("away", requeue=False)


@app.task
def spend_memory(key, mebibytes):
    ballast = bytearray(mebibytes * 1024 * 1024)
    ballast[::4096] = b"x" * len(ballast[::4096])
    write("run", key)


LEAKED = []


@app.task
def leak(key, mebibytes):
    """Keep memory for ever."""
    ballast = bytearray(mebibytes * 1024 * 1024)
    ballast[::4096] = b"x" * len(ballast[::4096])
    LEAKED.append(ballast)
    write("run", key, mebibytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


@app.task
def nothing():
    """Nothing at all."""


@app.task
def spend_time_on(key, seconds, text):
    """Work for a while on a large argument."""
    time.sleep(seconds)
    write("end", key, size=len(text))


@app.task
def lie_to_the_consumer(key):
    """Write into every socket of this process what looks like a report and is none."""
    write("run", key)
    frame = b'{"outcome": {"kind": "succeeded"}}'
    for descriptor in range(3, 64):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                os.write(descriptor, len(frame).to_bytes(4, "big") + frame)
    signal.pause()


@app.task
def lament(request, exc, traceback, gate=None):
    """An errback, called by the child that records a failure. ``gate``: it waits there."""
    write("lament", request.args[0], exc=repr(exc), id=request.id)
    if gate:
        with open(gate) as pipe:  # noqa: PTH123 - reads better than a Path
            pipe.read()


@app.task
def die_lamenting(request, exc, traceback):
    write("lament", request.args[0], exc=repr(exc), id=request.id)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def clear_up_on_sigterm(key, gate):
    """A task with a handler of its own: it clears up and lets the process end by the signal."""

    def clear_up(signum, frame):
        write("cleared", key)
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)

    signal.signal(signal.SIGTERM, clear_up)
    pass_gate(key, gate)


@app.task
def withstand_sigterm(key, gate):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pass_gate(key, gate)


def heard(name):
    def receiver(**kwargs):
        write("signal", name)

    return receiver


@signals.task_revoked.connect
def revoked(request, terminated, signum, expired, **kwargs):
    write("signal", "task_revoked", id=request.id, terminated=terminated, signum=signum, expired=expired)


for signal_name in ("worker_init", "worker_ready", "worker_process_init", "worker_shutting_down", "worker_shutdown"):
    getattr(signals, signal_name).connect(heard(signal_name), weak=False)
