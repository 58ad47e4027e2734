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

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-m", "pyqs_celery.local", "--port", "0", *arguments],
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

    def no_faults(self) -> None:
        self.faults()

    def trouble(self, **switches: Any) -> None:
        """``duplicates=0.1``, ``shuffle=True``: standard queues at their worst; ``in_flight_most=10``: a small quota."""
        self.ask("config", **switches)

    def policies(self, **by_key: list[dict[str, Any]]) -> None:
        """``policies(KEY=[{"actions": ["ReceiveMessage"], "queues": ["emails*"]}])``: this access key may do only that."""
        self.ask("config", policies=by_key)

    def expire_keys(self, *keys: str) -> None:
        """From now on these access keys, and no others, are answered with ExpiredToken."""
        self.ask("config", expired_keys=list(keys))

    def advance(self, seconds: float) -> None:
        """Put the server's clock forward: leases, delays, retention and open polls follow."""
        self.ask("clock", advance=seconds)

    def run_clock(self, rate: float) -> None:
        """From now on the server's clock does ``rate`` seconds in one."""
        self.ask("clock", rate=rate)

    def now(self) -> float:
        """What the server's clock shows."""
        return self.ask("clock", advance=0)["now"]

    def keep_events(self) -> None:
        """Begin an event log."""
        self.ask("eventlog", on=True)

    def events(self, *names: str) -> list[list[Any]]:
        """Of the event log: (time, event, queue, message id, detail); all events, or those named."""
        return [event for event in self.ask("eventlog")["events"] if not names or event[1] in names]

    def stats(self) -> dict[str, int]:
        """What happened to messages and how often: messages_in, duplicates, fault_..., error_..., retention ..."""
        return self.ask("counters")["stats"]

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
