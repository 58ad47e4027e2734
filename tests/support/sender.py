"""The tests' own producer: an application in this process that sends to an embedded SQS."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timezone
from typing import Any
from uuid import uuid4

from pyqs_celery import Celery
from tests.support.embedded import EmbeddedSqs


class Sender:
    """``send("note", "emails", 1, countdown=3)`` sends proj.note(1) to the queue emails."""

    def __init__(self, sqs: EmbeddedSqs) -> None:
        self.app = Celery("sender", broker="sqs://", set_as_current=False)
        self.app.conf.broker_transport_options = {"region": "us-east-1", "endpoint_url": sqs.endpoint}
        self.app.conf.broker_url = "sqs://test:test@"
        self.app.conf.sqs_publish_timeout = 60  # a busy machine may leave the server without a turn for seconds

    def __call__(self, task: str, queue: str, *args: Any, **options: Any) -> Any:
        return self.app.send_task(f"proj.{task}", args, queue=queue, **options)

    def close(self) -> None:
        self.app.close()


def body_with_eta(task: str, *args: Any, at: float) -> str:
    """A message that is visible before its ETA, as Celery's producers send it."""
    text = base64.b64encode(json.dumps([args, {}, {}]).encode()).decode()
    eta = datetime.fromtimestamp(at, timezone.utc).isoformat()
    return json.dumps(
        {
            "body": text,
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {"lang": "py", "task": f"proj.{task}", "id": str(uuid4()), "eta": eta},
            "properties": {"body_encoding": "base64"},
        }
    )
