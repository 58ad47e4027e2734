"""The same questions to two servers: ours, and moto's as a second opinion."""

from __future__ import annotations

import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.request import urlopen

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.support.waiting import until


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    endpoint = f"http://127.0.0.1:{port}"
    until(lambda: answers(endpoint), "moto's server answers", 60)
    yield endpoint
    process.terminate()
    process.wait(10)


def answers(endpoint: str) -> bool:
    try:
        with urlopen(f"{endpoint}/moto-api/", timeout=2):
            return True
    except OSError:
        return False


class Asker:
    """A boto3 client and the few words the questions are asked in."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.run = uuid.uuid4().hex[:8]
        self.client = self.another_client()

    def another_client(self) -> Any:
        return boto3.client(
            "sqs",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"max_attempts": 0}, read_timeout=30, connect_timeout=5),
        )

    def queue(self, name: str = "q", **attributes: Any) -> str:
        full = f"{name}-{self.run}-{uuid.uuid4().hex[:6]}" + (".fifo" if attributes.get("FifoQueue") else "")
        texts = {key: str(value) for key, value in attributes.items()}
        return self.client.create_queue(QueueName=full, Attributes=texts)["QueueUrl"]

    def send(self, url: str, body: str = "x", **fields: Any) -> dict[str, Any]:
        return self.client.send_message(QueueUrl=url, MessageBody=body, **fields)

    def receive(self, url: str, most: int = 10, wait: int = 0, **fields: Any) -> list[dict[str, Any]]:
        answer = self.client.receive_message(QueueUrl=url, MaxNumberOfMessages=most, WaitTimeSeconds=wait, **fields)
        return answer.get("Messages", [])

    def show(self, url: str, message: dict[str, Any], seconds: int = 0) -> None:
        self.client.change_message_visibility(
            QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=seconds
        )

    def code(self, call: Callable[[], Any]) -> str:
        """The error code a call is answered with."""
        try:
            call()
        except ClientError as exc:
            return exc.response["Error"]["Code"]
        return "no error"


@pytest.fixture(params=["embedded", pytest.param("moto", marks=pytest.mark.moto)])
def ask(request: pytest.FixtureRequest, sqs_server: Any) -> Asker:
    name = request.node.originalname.removeprefix("test_")
    if request.param == "moto":
        if name in request.module.MOTO_DIFFERS:
            pytest.skip(f"moto differs from AWS here: {request.module.MOTO_DIFFERS[name]}")
        return Asker(request.getfixturevalue("moto_endpoint"))
    return Asker(sqs_server.endpoint)
