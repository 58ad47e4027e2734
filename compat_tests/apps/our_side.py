"""The same application after the import swap."""

import os
from urllib.parse import urlsplit

import shared_tasks

from pyqs_celery import Celery

endpoint = urlsplit(os.environ["ENDPOINT"])
app = Celery("compat", broker=f"sqs://test:test@{endpoint.hostname}:{endpoint.port}//")
app.conf.update(
    broker_transport_options={"region": "us-east-1", "is_secure": False, "wait_time_seconds": 1},
    accept_content=["json", "pickle", "yaml", "msgpack"],
    task_ignore_result=True,
)
tasks = shared_tasks.declare(app)
