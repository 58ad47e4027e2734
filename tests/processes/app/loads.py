"""Tasks that write down which modules have been imported since their process was forked; this module imports little itself."""

import json
import os
import sys
from pathlib import Path

from pyqs_celery import Celery, signals

app = Celery("loads", broker="sqs://", worker_redirect_stdouts=False)
app.conf.broker_transport_options = {"wait_time_seconds": 1}
known: set[str] = set()


@signals.worker_process_init.connect
def forked(**_):
    known.update(sys.modules)


@app.task(name="loads.look")
def look(key):
    line = json.dumps({"event": "look", "key": key, "new": sorted(set(sys.modules) - known)}) + "\n"
    with Path(os.environ["DIARY"]).open("a") as diary:
        diary.write(line)


@app.task(name="loads.fail")
def fail(key):
    raise ValueError(key)
