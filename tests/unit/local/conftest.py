"""Stores with a clock that stands still, and clients of a real server under any access key."""

from __future__ import annotations

import boto3
import pytest
from botocore.config import Config

from pyqs_celery.local.store import Store


class StandingClock:
    """Shows what it is told."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class LocalStore:
    """A store and the few words the tests talk to it in."""

    def __init__(self) -> None:
        self.clock = StandingClock()
        self.store = Store(self.clock)
        self.store.log = []

    def create(self, name, **attributes):
        if name.endswith(".fifo"):
            attributes |= {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
        texts = {key: str(value) for key, value in attributes.items()}
        return self.store.create({"QueueName": name, "Attributes": texts})

    def send(self, queue, *bodies, **fields):
        group = {"MessageGroupId": "g"} if queue.fifo else {}
        for body in bodies:
            self.store.send(queue, {"MessageBody": body, **group, **fields})

    def receive(self, queue, most=10, **fields):
        names = ["All"]
        return self.store.receive(queue, {"MaxNumberOfMessages": most, "AttributeNames": names, **fields})

    def bodies(self, queue, **fields):
        return [message["Body"] for message in self.receive(queue, **fields)]


@pytest.fixture
def local():
    return LocalStore()


@pytest.fixture
def client_of(sqs):
    """``client_of("KEY")`` is a boto3 client under this access key; it never tries twice and waits 2 s at most."""

    def make(key="test", read_timeout=2):
        return boto3.client(
            "sqs",
            endpoint_url=sqs.endpoint,
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key="x",
            config=Config(retries={"max_attempts": 0}, read_timeout=read_timeout, connect_timeout=2),
        )

    return make
