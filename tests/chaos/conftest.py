"""Servers that may be ill-treated: each file of tests has its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.embedded import EmbeddedSqs


@pytest.fixture(scope="module")
def sqs_server() -> Iterator[EmbeddedSqs]:
    server = EmbeddedSqs()
    yield server
    server.close()
