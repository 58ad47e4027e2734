"""The embedded SQS in a process of its own, with its back door."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from pyqs_celery.broker.client import SqsClient
from pyqs_celery.broker.config import BrokerConfig, Credentials
from pyqs_celery.broker.delivery import Outgoing
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]


class EmbeddedSqs:
    """One server; ``close`` ends it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-m", "pyqs_celery.local", "--port", "0"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert "http://" in line, "the embedded SQS did not start"
        self.endpoint = line.split()[-1]
        self.client = SqsClient(
            BrokerConfig(region="us-east-1", endpoint_url=self.endpoint, credentials=Credentials("test", "test"))
        )
        self.environment = {
            "AWS_ENDPOINT_URL_SQS": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1",
        }

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    # -- the back door -----------------------------------------------------------------------------

    def ask(self, page: str, **data: Any) -> dict[str, Any]:
        body = json.dumps(data).encode() if data else None
        with urlopen(Request(f"{self.endpoint}/_admin/{page}", data=body), timeout=10) as answer:
            return json.load(answer)

    def wipe(self) -> None:
        self.ask("wipe")

    def faults(self, *rules: dict[str, Any]) -> None:
        self.ask("config", faults=list(rules))

    def state(self, queue: str) -> dict[str, int]:
        return self.ask("state").get(queue, {})

    def left(self, queue: str) -> int:
        """Messages in any state."""
        state = self.state(queue)
        return state["visible"] + state["inflight"] + state["delayed"]

    def requests(self) -> dict[str, int]:
        return self.ask("counters")["actions"]

    def is_polled(self, queue: str) -> bool:
        return bool(self.state(queue).get("waiters"))

    # -- shortcuts ---------------------------------------------------------------------------------

    def create(self, name: str, **attributes: Any) -> str:
        if name.endswith(".fifo"):
            attributes.setdefault("FifoQueue", "true")
        return self.client.create_queue(name, {key: str(value) for key, value in attributes.items()})

    def create_with_dead_letters(self, name: str, max_receive_count: int, **attributes: Any) -> str:
        """The queue ``name`` and its dead-letter queue ``name-dlq``."""
        stem, fifo = name.removesuffix(".fifo"), ".fifo" if name.endswith(".fifo") else ""
        letters = f"{stem}-dlq{fifo}"
        arn = self.client.queue_attributes(self.create(letters), letters)["QueueArn"]
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": max_receive_count})
        return self.create(name, RedrivePolicy=policy, **attributes)

    def delete(self, name: str) -> None:
        self.client._client().delete_queue(QueueUrl=self.url(name))

    def url(self, name: str) -> str:
        return self.client.queue_url(name)

    def put(self, queue: str, body: str, **fields: Any) -> str:
        return self.client.send(self.url(queue), Outgoing(queue, body, **fields))

    def bodies(self, queue: str) -> list[str]:
        return self.ask("peek", queue=queue, n=10_000)["bodies"]

    def attributes(self, queue: str) -> list[dict[str, Any]]:
        return self.ask("peek", queue=queue, n=10_000)["attributes"]

    def wait_empty(self, queue: str, seconds: float = 30.0) -> None:
        until(lambda: self.left(queue) == 0, f"{queue} is empty", seconds)

    def wait_polled(self, queue: str, seconds: float = 30.0) -> None:
        until(lambda: self.is_polled(queue), f"{queue} is polled", seconds)
