"""A real Celery that sends beside our producer: run by an interpreter that has Celery, with the driver's environment.

``python -m tests.soak.peer`` with the options of ``tests.soak.traffic``; SIGTERM ends it.
"""

import argparse
import os
import random
import signal
import sys
import threading
import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit

from celery import Celery  # noqa: TID251 - the peer itself

from tests.soak.plan import WORK_QUEUES
from tests.soak.records import Diary

parser = argparse.ArgumentParser()
parser.add_argument("--rate", type=float)
parser.add_argument("--seed", type=int)
parser.add_argument("--horizon", type=float)
parser.add_argument("--lines", type=Path)
parser.add_argument("--pause", type=Path)
given = parser.parse_args()
endpoint = urlsplit(os.environ["AWS_ENDPOINT_URL_SQS"])
app = Celery("peer", broker=f"sqs://test:test@{endpoint.hostname}:{endpoint.port}//")
app.conf.update(
    broker_transport_options={"region": "us-east-1", "is_secure": False},
    task_ignore_result=True,
    task_create_missing_queues=True,
    task_queues=None,
)
rng = random.Random(f"peer {given.seed}")
diary = Diary(given.lines, "peer")
ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set())


def send() -> None:
    kind = rng.choices(("nothing", "nap", "late", "flaky"), (60, 20, 10, 10))[0]
    args = {"nap": (0.05,), "flaky": (rng.randint(1, 2),)}.get(kind, ())
    queue = rng.choice(WORK_QUEUES)
    seconds = rng.uniform(1, given.horizon) if kind == "late" else None
    task = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    diary.sending(task, kind, queue, due=time.time() + seconds if seconds else 0.0)
    try:
        app.send_task(f"soak.{kind}", args, task_id=task, queue=queue, countdown=seconds)
    except Exception as exc:  # noqa: BLE001 - whatever boto3 or kombu raise: the send is in doubt
        print(f"a send is in doubt: {type(exc).__name__}: {exc}", file=sys.stderr, flush=True)
    else:
        diary.sent(task)


owed, before = 0.0, time.monotonic()
while not ended.wait(0.1):
    now = time.monotonic()
    owed, before = min(owed + given.rate * (now - before), 20 * given.rate), now
    if given.pause.exists():
        owed = 0.0
    while owed >= 1 and not ended.is_set():
        owed -= 1
        send()
