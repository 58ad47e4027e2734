"""The tests' own producer: the same app, in this process, sending to the embedded SQS."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.embedded import EmbeddedSqs
from tests.support.sender import Sender


@pytest.fixture
def send(sqs: EmbeddedSqs) -> Iterator[Sender]:
    """``send("note", "emails", 1, countdown=3)`` sends proj.note(1) to the queue emails."""
    sender = Sender(sqs)
    yield sender
    sender.close()
