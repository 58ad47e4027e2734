"""An app on queues in memory, and what it has put there."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from pyqs_celery import Celery, wire
from pyqs_celery.local.client import shared_client
from pyqs_celery.utils import aio


class Sent:
    """Messages that wait on a queue, as boto3 would receive them and decoded."""

    def __init__(self, name: str) -> None:
        self.client = shared_client(name)

    def raw(self, queue: str) -> list[dict[str, Any]]:
        url = self.client.get_queue_url(QueueName=queue)["QueueUrl"]
        found: list[dict[str, Any]] = []
        while True:
            answer = self.client.receive_message(
                QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["All"], MessageAttributeNames=["All"]
            )
            if not answer.get("Messages"):
                return found
            found.extend(answer["Messages"])

    def __call__(self, queue: str = "celery") -> list[wire.TaskMessage]:
        accept = ("json", "pickle", "yaml", "msgpack")
        return [wire.decode(message, accept_content=accept) for message in self.raw(queue)]

    def delayed(self, queue: str = "celery") -> int:
        url = self.client.get_queue_url(QueueName=queue)["QueueUrl"]
        attributes = self.client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return int(attributes["ApproximateNumberOfMessagesDelayed"])

    def queues(self) -> list[str]:
        return sorted(url.rsplit("/", 1)[-1] for url in self.client.list_queues().get("QueueUrls", []))


@pytest.fixture(autouse=True)
def _close_the_loop():
    """Tasks that are coroutines run on a loop that lives as long as their thread; here that is a test."""
    yield
    aio.close()


@pytest.fixture
def broker() -> str:
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def app(broker: str) -> Any:
    made = Celery("proj", broker=broker, set_as_current=False)
    yield made
    made.close()


@pytest.fixture
def sent(broker: str) -> Sent:
    return Sent(broker.removeprefix("memory://"))
