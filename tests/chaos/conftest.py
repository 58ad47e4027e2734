"""Servers that may be ill-treated: each file of tests has its own, and its own producer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.embedded import EmbeddedSqs
from tests.support.sender import Sender


@pytest.fixture(scope="module")
def sqs_server() -> Iterator[EmbeddedSqs]:
    server = EmbeddedSqs()
    yield server
    server.close()


@pytest.fixture
def send(sqs: EmbeddedSqs) -> Iterator[Sender]:
    """``send("note", "emails", 1, countdown=3)`` sends proj.note(1) to the queue emails."""
    sender = Sender(sqs)
    yield sender
    sender.close()
