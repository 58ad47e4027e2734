"""Finding queues again, and how soon: SQS being away, a queue that vanished, one that never was."""

from __future__ import annotations

import threading
from dataclasses import replace
from queue import Empty, SimpleQueue

import pytest

from pyqs_celery.broker.client import SqsClient
from pyqs_celery.broker.config import BrokerConfig
from pyqs_celery.broker.errors import NO_CREDENTIALS
from pyqs_celery.exceptions import AccessDenied, BrokerUnavailable, InvalidRequest
from pyqs_celery.local.client import LocalClient
from pyqs_celery.worker.config import WorkerConfig
from pyqs_celery.worker.discovery import Discovery


class Moody:
    """The embedded SQS in memory, which answers the first ``failures`` calls with ``error``."""

    def __init__(self, failures=0, error=None):
        self.inner = LocalClient()
        self.failures = failures
        self.error = error or BrokerUnavailable("away")

    def __getattr__(self, name):
        if self.failures:
            self.failures -= 1
            raise self.error
        return getattr(self.inner, name)


@pytest.fixture
def look():
    """``look(boto, "a")`` starts looking for the queue a; what is found comes out of ``.found``."""
    made = []

    def start(boto, *wanted, **config):
        found = SimpleQueue()
        refused = threading.Event()
        settings = replace(WorkerConfig(queue_refresh_seconds=600), **config)
        client = SqsClient(BrokerConfig(region="us-east-1"), boto_client=boto)
        discovery = Discovery(client, settings, wanted, found=found.put, refused=lambda sentence: refused.set())
        discovery.found, discovery.is_refused = found, refused
        made.append(discovery)
        discovery.start()
        return discovery

    yield start
    for discovery in made:
        discovery.stop()


def names(queues):
    return [queue.name for queue in queues]


def test_a_worker_that_starts_while_sqs_is_away_looks_until_it_is_there(look):
    boto = Moody(failures=4)
    boto.inner.create_queue(QueueName="a")
    discovery = look(boto, "a")
    assert names(discovery.found.get(timeout=10)) == ["a"]
    assert not discovery.is_refused.is_set()


def test_what_is_denied_at_the_start_may_be_allowed_a_moment_later(look):
    boto = Moody(failures=2, error=AccessDenied("ListQueues was denied"))
    boto.inner.create_queue(QueueName="a")

    discovery = look(boto, "a*")

    assert names(discovery.found.get(timeout=20)) == ["a"]
    assert not discovery.is_refused.is_set()


def test_without_credentials_there_is_nothing_to_wait_for(look):
    discovery = look(Moody(failures=9, error=AccessDenied("nobody is logged in", code=NO_CREDENTIALS)), "a*")

    assert discovery.is_refused.wait(10)


def test_a_queue_that_vanished_is_looked_for_every_few_seconds(look):
    boto = Moody()
    boto.inner.create_queue(QueueName="a")
    discovery = look(boto, "a")
    assert names(discovery.found.get(timeout=10)) == ["a"]
    boto.inner.delete_queue(QueueUrl="memory://local/000000000000/a")
    discovery.vanished("a")
    assert names(discovery.found.get(timeout=10)) == []

    boto.inner.create_queue(QueueName="a")

    while not (found := names(discovery.found.get(timeout=10))):
        continue
    assert found == ["a"]


def test_a_queue_that_never_was_is_looked_for_at_the_ordinary_pace(look):
    discovery = look(Moody(), "a")
    assert names(discovery.found.get(timeout=10)) == []
    with pytest.raises(Empty):
        discovery.found.get(timeout=6)


def test_a_name_that_sqs_would_refuse_is_refused_at_once_and_stops_no_look(look):
    """Looked for, it once failed every look, so that nothing else that was asked for was found any more."""
    boto = Moody()
    for name in ("a", "b"):
        boto.inner.create_queue(QueueName=name)
    discovery = look(boto, "a")
    assert names(discovery.found.get(timeout=5)) == ["a"]

    with pytest.raises(InvalidRequest):
        discovery.add("naïve")
    discovery.add("b")

    assert names(discovery.found.get(timeout=5)) == ["a", "b"]
