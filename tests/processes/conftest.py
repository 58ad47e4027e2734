"""The tests' own producer: the same app, in this process, sending to the embedded SQS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pyqs_celery import Celery
from tests.support.embedded import EmbeddedSqs


@pytest.fixture
def send(sqs: EmbeddedSqs) -> Iterator[Callable[..., Any]]:
    """``send("note", "emails", 1, countdown=3)`` sends proj.note(1) to the queue emails."""
    app = Celery("sender", broker="sqs://", set_as_current=False)
    app.conf.broker_transport_options = {"region": "us-east-1", "endpoint_url": sqs.endpoint}
    app.conf.broker_url = "sqs://test:test@"

    def send_one(task: str, queue: str, *args: Any, **options: Any) -> Any:
        return app.send_task(f"proj.{task}", args, queue=queue, **options)

    send_one.app = app  # type: ignore[attr-defined]
    yield send_one
    app.close()
