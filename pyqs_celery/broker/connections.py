"""The boto3 clients of a process: one for each identity, region and endpoint, made once and renewed after trouble.

boto3's clients are thread-safe; one that was made before a fork is never used after it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pyqs_celery import exceptions
from pyqs_celery.broker.config import BrokerConfig, endpoint_of, is_at_aws
from pyqs_celery.broker.credentials import Identities, Keys, OfProcess
from pyqs_celery.broker.limits import CONNECT_TIMEOUT_SECONDS, READ_MARGIN_SECONDS
from pyqs_celery.broker.roundtrip import RoundTrip
from pyqs_celery.version import __version__

RESET_APART_SECONDS = 5.0
"""Clients younger than this are kept when somebody wants new ones: another thread has just had the same trouble."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds a connection and an answer may take."""

    connect: float = CONNECT_TIMEOUT_SECONDS
    read: float = 20 + READ_MARGIN_SECONDS

    @property
    def total(self) -> float:
        """Both: the longest that a call without an answer takes."""
        return self.connect + self.read


@dataclass(frozen=True, slots=True)
class Connection:
    """A client with boto3's SQS methods and the keys it signs with; None for a client that signs nothing.

    ``round_trip`` makes its requests, None if it does that itself.
    """

    client: Any
    keys: Keys | None = None
    round_trip: RoundTrip | None = None

    def close(self) -> None:
        """Close what is open."""
        self.client.close()
        if self.round_trip is not None:
            self.round_trip.close()


@dataclass(slots=True)
class _Made:
    """What was made in this process: ``connections`` by identity, region and endpoint, ``routes`` by queue and URL."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    connections: dict[tuple[int, str | None, str | None], Connection] = field(default_factory=dict)
    routes: dict[tuple[str | None, str | None], Connection] = field(default_factory=dict)
    since: float = float("-inf")


class Connections:
    """Finds the client for a queue. ``pool_size`` is how many connections each may have open at once."""

    def __init__(
        self,
        config: BrokerConfig,
        identities: Identities,
        *,
        pool_size: int,
        timeouts: Timeouts,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._identities = identities
        self._pool_size = pool_size
        self._timeouts = timeouts
        self._timer = timer
        self._made = OfProcess[_Made](_Made)

    def of(self, queue: str | None, url: str | None) -> Connection:
        """The connection for a queue by its SQS name and URL, None where a call has neither."""
        made = self._made.get()
        route = (queue, url) if self._config.predefined_queues else (None, None)
        found = made.routes.get(route)
        if found is None:
            with made.lock:
                found = made.routes[route] = self._find(made, queue, url)
        return found

    def reset(self, *, after_trouble: bool = False) -> None:
        """Close the clients; the next call makes new ones, with the same keys. ``after_trouble``: but not young ones."""
        made = self._made.get()
        with made.lock:
            if after_trouble and self._timer() - made.since < RESET_APART_SECONDS:
                return
            old = list(made.connections.values())
            made.connections.clear()
            made.routes.clear()
        for connection in old:
            connection.close()

    def _find(self, made: _Made, queue: str | None, url: str | None) -> Connection:
        config = self._config
        predefined = config.predefined(queue, url)
        credentials, role, region, endpoint = config.credentials, config.sts_role_arn, config.region, None
        if predefined is not None:
            credentials = predefined.credentials or credentials
            role = predefined.sts_role_arn or role
            region = predefined.region or region
            endpoint = endpoint_of(predefined.url)
        keys = self._identities.of(credentials, role, region)
        key = (id(keys), region, config.endpoint_url or endpoint)
        found = made.connections.get(key)
        if found is None:
            found = made.connections[key] = self._new(keys, region, endpoint)
            made.since = self._timer()
        return found

    def _new(self, keys: Keys, region: str | None, endpoint: str | None) -> Connection:
        config = self._config
        if config.in_memory is not None:
            from pyqs_celery.local.client import shared_client

            return Connection(shared_client(config.in_memory))
        settings = self._settings()
        client = keys.client("sqs", region, endpoint_url=config.endpoint_url, config=settings)
        application = getattr(client.meta.config, "user_agent_appid", None)
        if application and "user_agent" not in config.client_config:
            # what AWS_SDK_UA_APP_ID or a profile say is known to a client only, and would be missing in a name of ours
            client.close()
            settings = settings.merge(_config(user_agent=f"{_user_agent()} app/{application}"))
            client = keys.client("sqs", region, endpoint_url=config.endpoint_url, config=settings)
        if config.endpoint_url is None and endpoint is not None and is_at_aws(client.meta.endpoint_url):
            # no profile names an endpoint either, so the one in the queue's URL is meant
            client.close()
            client = keys.client("sqs", region, endpoint_url=endpoint, config=settings)
        return Connection(client, keys, RoundTrip.on(client, keys.setting("ca_bundle")))

    def _settings(self) -> Any:
        ours = _config(
            connect_timeout=self._timeouts.connect,
            read_timeout=self._timeouts.read,
            retries={"total_max_attempts": 1},
            max_pool_connections=self._pool_size,
            tcp_keepalive=True,
            parameter_validation=False,  # the values are checked before: they are ours, or the publisher looks at them
            user_agent=_user_agent(),
        )
        try:
            return ours.merge(_config(**self._config.client_config))
        except Exception as exc:
            raise exceptions.InvalidRequest(
                f"broker_transport_options['client-config'] is none of botocore's: {exc}"
            ) from exc


def _config(**options: Any) -> Any:
    from botocore.config import Config

    return Config(**options)


@cache
def _user_agent() -> str:
    """What AWS's logs show as the caller. Botocore would put its own together anew for each request, which takes it long."""
    from platform import python_version

    from botocore import __version__ as botocore_version

    return f"pyqs-celery/{__version__} Botocore/{botocore_version} Python/{python_version()}"
