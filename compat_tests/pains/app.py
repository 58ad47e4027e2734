"""The application of every row, for both sides: the same but for the import.

``PAINS_SIDE`` is ``celery`` or ``ours``; ``PAINS_SETTINGS`` holds settings as JSON.
"""

import json
import os
import signal
import time

if os.environ["PAINS_SIDE"] == "celery":
    from celery import Celery  # noqa: TID251 - the peer itself
else:
    from pyqs_celery import Celery


def make_app(broker, settings):
    made = Celery("pains", broker=broker, set_as_current=False)
    made.conf.update(
        broker_transport_options={"region": "us-east-1", "is_secure": False},
        broker_connection_retry_on_startup=True,
        task_ignore_result=True,
    )
    options = {**made.conf.broker_transport_options, **settings.pop("broker_transport_options", {})}
    made.conf.update(settings, broker_transport_options=options)
    return made


def write(event, key, **facts):
    line = json.dumps({"event": event, "key": key, "pid": os.getpid(), "at": time.time(), **facts}) + "\n"
    descriptor = os.open(os.environ["DIARY"], os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, line.encode())
    os.close(descriptor)


app = make_app(os.environ["PAINS_BROKER"], json.loads(os.environ.get("PAINS_SETTINGS", "{}")))


@app.task(name="pains.note")
def note(key):
    write("run", key)


@app.task(name="pains.work")
def work(key, seconds):
    write("run", key)
    time.sleep(seconds)
    write("end", key)


@app.task(name="pains.fail_with_retries", bind=True, max_retries=2, default_retry_delay=1)
def fail_with_retries(self, key):
    write("run", key)
    raise self.retry(exc=ValueError("never any luck"))


@app.task(name="pains.fail_on_one_message", bind=True, max_retries=2, default_retry_delay=1, sqs_retry="native")
def fail_on_one_message(self, key):
    """``sqs_retry`` is ours; Celery keeps it as an attribute and does not look at it."""
    write("run", key)
    raise self.retry(exc=ValueError("never any luck"))


@app.task(name="pains.fail_once", bind=True, max_retries=3)
def fail_once(self, key, unlucky):
    """Write "done" at the end; the unlucky one asks for another try first."""
    write("run", key)
    if unlucky and self.request.retries == 0:
        raise self.retry(countdown=0)
    write("done", key)


@app.task(name="pains.move_on", bind=True, max_retries=1)
def move_on(self, key, queue):
    """Retry once, on another queue."""
    write("run", key)
    raise self.retry(countdown=0, queue=queue)


@app.task(name="pains.kill_own_process")
def kill_own_process(key):
    write("run", key)
    os.kill(os.getpid(), signal.SIGKILL)


if os.environ.get("PAINS_DEPLOY") == "new":

    @app.task(name="pains.new_in_this_deploy")
    def new_in_this_deploy(key):
        write("run", key)
