"""Signed messages, written once for both sides: run with calls as JSON it sends them, as a module it is a worker's.

``SIDE`` says whose library is used, ``KEYS`` is the folder of keys and ``IDENTITY`` who signs.
"""

import importlib
import json
import os
import sys
from urllib.parse import urlsplit

library = importlib.import_module("celery" if os.environ["SIDE"] == "celery_side" else "pyqs_celery")
endpoint = urlsplit(os.environ["ENDPOINT"])
keys, identity = os.environ["KEYS"], os.environ["IDENTITY"]
app = library.Celery("compat", broker=f"sqs://test:test@{endpoint.hostname}:{endpoint.port}//")
app.conf.update(
    broker_transport_options={
        "region": "us-east-1",
        "is_secure": False,
        "wait_time_seconds": 1,
        "polling_interval": 0.1,
    },
    task_ignore_result=True,
    task_default_queue="compat",
    task_serializer="auth",
    accept_content=["auth"],
    security_key=f"{keys}/{identity}.key",
    security_certificate=f"{keys}/certificates/{identity}.pem",
    security_cert_store=f"{keys}/certificates/known-*.pem",
)
if os.environ["IDENTITY"] == "nobody":
    app.conf.update(task_serializer="json", accept_content=["json"])
else:
    app.setup_security()


@app.task(name="signed.note", bind=True)
def note(self, key, value, then=None):
    line = json.dumps({"event": "run", "key": key, "args": repr(value), "side": os.environ["SIDE"]})
    with open(os.environ["DIARY"], "a") as diary:  # noqa: PTH123 - runs under Celery's oldest Python too
        diary.write(line + "\n")
    if then:
        self.apply_async([then, value])
    if key.startswith("again") and self.request.retries < 1:
        self.retry(countdown=0)


if __name__ == "__main__":
    for key, value, then in json.loads(sys.argv[1]):
        note.apply_async([key, value, then])
    print("sent")
