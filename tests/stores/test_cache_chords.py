"""Chords counted in a real memcached, by processes that are killed at any moment."""

from __future__ import annotations

import os
import signal
from typing import Any
from urllib.parse import urlsplit

import pytest

from pyqs_celery.backends.cache import CacheBackend
from tests.stores.contract import Chord
from tests.stores.test_redis_chords import BODIES, Fleet, MortalApp
from tests.support.embedded import EmbeddedSqs
from tests.support.servers import MemcachedServer


class Mortal(CacheBackend):
    """A back end whose process is killed before or after a call to memcached: after ``lives`` of such steps."""

    lives = -1
    steps = 0
    sent_at: int | None = None

    def step(self) -> None:
        self.steps += 1
        if self.lives == self.steps:
            os.kill(os.getpid(), signal.SIGKILL)


def _mortal(name: str) -> Any:
    def call(self: Mortal, *args: Any, **kwargs: Any) -> Any:
        self.step()
        try:
            return getattr(CacheBackend, name)(self, *args, **kwargs)
        finally:
            self.step()

    return call


for each in ("get", "set", "add", "incr", "delete", "expire", "mget"):
    setattr(Mortal, each, _mortal(each))


class MemcachedFleet(Fleet):
    def app(self) -> MortalApp:
        place = urlsplit(self.sqs.endpoint)
        options = {
            "region": "us-east-1",
            "is_secure": False,
            "predefined_queues": {BODIES: {"url": self.sqs.url(BODIES)}},
        }
        return MortalApp(
            "proj",
            broker=f"sqs://test:test@{place.hostname}:{place.port}//",
            backend=Mortal,
            cache_backend=self.url,
            set_as_current=False,
            broker_transport_options=options,
        )


@pytest.fixture
def fleet(sqs: EmbeddedSqs, memcached_server: MemcachedServer) -> MemcachedFleet:
    return MemcachedFleet(sqs, f"memcached://{memcached_server.empty()}/")


def test_five_hundred_members_that_report_up_to_three_times_and_are_killed(fleet: MemcachedFleet) -> None:
    chord = Chord(fleet.app(), 500).begin()

    acknowledged, deaths = fleet.deliver(chord, seed=9, most_lives=600)

    assert acknowledged == set(range(500))
    assert deaths > 5
    assert fleet.bodies() == [[list(range(500))]]
