"""How many requests an endpoint answers for a second of its processor: ``python -m benchmarks.capacity --venvs FOLDER``.

The embedded SQS as it is, and behind the fast front, asked in turn over one connection by a client without boto3.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from benchmarks import processes
from benchmarks.cli import DEFAULT_FOLDER
from benchmarks.environments import ENDPOINT, VirtualEnvironments
from benchmarks.sqs import Endpoint

BATCHES = 3000
ROUNDS = 3
BODY = "x" * 600
PACKAGE = Path(__file__).parent


class Client:
    """Asks one endpoint; ``rate`` tells what that cost it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._connection = HTTPConnection(endpoint.url.removeprefix("http://"))
        self._queue = f"{endpoint.url}/000000000000/bench"

    def ask(self, action: str, **request: Any) -> dict[str, Any]:
        """One request about the queue, with the headers that boto3 sends."""
        headers = {
            "X-Amz-Target": f"AmazonSQS.{action}",
            "Content-Type": "application/x-amz-json-1.0",
            "User-Agent": "Boto3/1.40 md/Botocore#1.40 ua/2.1 os/linux md/arch#x86_64 lang/python#3.11",
            "X-Amz-Date": "20260101T000000Z",
            "Authorization": f"AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/sqs/aws4_request, Signature={'0' * 64}",
            "amz-sdk-request": "attempt=1",
        }
        self._connection.request("POST", "/", json.dumps({"QueueUrl": self._queue, **request}), headers)
        answer: dict[str, Any] = json.loads(self._connection.getresponse().read() or b"{}")
        return answer

    def rate(self, times: int, ask: Callable[[], object]) -> float:
        """Requests that the endpoint answered for each second of its processor."""
        before = processes.processor_seconds([self._endpoint.pid])
        for _ in range(times):
            ask()
        return times / (processes.processor_seconds([self._endpoint.pid]) - before)


def measure(endpoint: Endpoint) -> dict[str, float]:
    """One after the other: single sends, sends, receives and deletions of ten."""
    endpoint.prepare(["bench"])
    client, received = Client(endpoint), list[list[dict[str, Any]]]()
    ten = [{"Id": str(place), "MessageBody": BODY} for place in range(10)]

    def receive() -> None:
        received.append(client.ask("ReceiveMessage", MaxNumberOfMessages=10)["Messages"])

    def delete() -> None:
        entries = [{"Id": str(place), "ReceiptHandle": m["ReceiptHandle"]} for place, m in enumerate(received.pop())]
        client.ask("DeleteMessageBatch", Entries=entries)

    return {
        "SendMessage": client.rate(BATCHES, lambda: client.ask("SendMessage", MessageBody=BODY)),
        "SendMessageBatch of 10": client.rate(BATCHES, lambda: client.ask("SendMessageBatch", Entries=ten)),
        "ReceiveMessage of 10": client.rate(BATCHES, receive),
        "DeleteMessageBatch of 10": client.rate(BATCHES, delete),
    }


def main() -> None:
    """Measure both in turn."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capacity", description=__doc__)
    parser.add_argument("--venvs", type=Path, default=DEFAULT_FOLDER)
    environments = VirtualEnvironments(parser.parse_args().venvs.absolute())
    environments.install([])
    python = str(environments.folder / ENDPOINT / "bin" / "python")
    commands = {
        "embedded": [python, "-u", "-m", "pyqs_celery.local", "--port", "0"],
        "fast front": environments.endpoint_command(),
    }
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "benchmarks").symlink_to(PACKAGE)
        environment = {**os.environ, "PYTHONPATH": folder}
        for place in range(ROUNDS):
            for name, command in commands.items():
                with closing(Endpoint(command, environment, Path(folder) / "log")) as endpoint:
                    found = ", ".join(f"{action} {rate:,.0f}" for action, rate in measure(endpoint).items())
                print(f"round {place + 1}, {name}, requests for a second of its processor: {found}", flush=True)


if __name__ == "__main__":
    main()
