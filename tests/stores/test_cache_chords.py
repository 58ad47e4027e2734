"""Chords counted in a real memcached, by processes that are killed at any moment."""

from __future__ import annotations

import os
import random
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
    dice = random.Random(9)
    app = fleet.app()
    chord = Chord(app, 500).begin()
    deliveries = [index for index in range(500) for _ in range(dice.randint(1, 3))]
    dice.shuffle(deliveries)
    deaths = 0
    acknowledged: set[int] = set()

    while deliveries:
        workers = []
        for _ in range(4):
            batch, deliveries = deliveries[:40], deliveries[40:]
            lives = dice.randint(1, 600) if dice.random() < 0.6 else -1
            workers.append((batch, *fleet.start(chord, batch, lives, spare_after_sending=True)))
        for batch, process, done in workers:
            reported, *_ = fleet.end(process, done)
            acknowledged |= reported
            lost = [index for index in batch if index not in reported]
            deaths += bool(lost)
            deliveries += lost

    assert acknowledged == set(range(500))
    assert deaths > 5
    assert fleet.bodies() == [[list(range(500))]]
