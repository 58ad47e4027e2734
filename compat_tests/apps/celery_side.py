"""The application of a team that still runs Celery."""

import os
from urllib.parse import urlsplit

import shared_tasks
from celery import Celery  # noqa: TID251 - the peer itself

endpoint = urlsplit(os.environ["ENDPOINT"])
app = Celery("compat", broker=f"sqs://test:test@{endpoint.hostname}:{endpoint.port}//")
app.conf.update(
    broker_transport_options={
        "region": "us-east-1",
        "is_secure": False,
        "wait_time_seconds": 1,
        "polling_interval": 0.1,
    },
    accept_content=["json", "pickle", "yaml", "msgpack"],
    task_ignore_result=True,
    worker_hijack_root_logger=True,
)
tasks = shared_tasks.declare(app)
