"""Stores are real servers, one of each for the session; a test gets an empty one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.aws import AtomicMoto
from tests.support.servers import MemcachedServer, RedisServer

pytest.register_assert_rewrite("tests.stores.contract")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def aws_server() -> Iterator[AtomicMoto]:
    """DynamoDB and S3."""
    server = AtomicMoto()
    yield server
    server.close()


@pytest.fixture(scope="session")
def memcached_server() -> Iterator[MemcachedServer]:
    server = MemcachedServer()
    yield server
    server.close()
