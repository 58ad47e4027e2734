"""``-A tests.stores.sql_app``: an application whose results are in the database that ``RESULTS`` names."""

import os
import signal
from pathlib import Path

from pyqs_celery import Celery

app = Celery("sql_app", broker="sqs://", backend=os.environ["RESULTS"])
app.conf.update(
    database_chord_counter=bool(os.environ.get("COUNTED")),
    task_create_missing_queues=True,
    broker_transport_options={"wait_time_seconds": 1},
)


@app.task
def add(x, y):
    return x + y


@app.task
def total(values):
    return sum(values)


@app.task
def dies_once(mark, value):
    """Kills its process the first time."""
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return value
