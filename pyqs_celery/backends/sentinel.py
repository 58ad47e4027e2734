"""Results in a Redis whose master is found by Sentinels: ``sentinel://host:26379/0;sentinel://host2:26379/0``.

``result_backend_transport_options``: ``master_name``, ``sentinel_kwargs`` (parameters for the Sentinels themselves),
``min_other_sentinels``. User, password and database of the URL's first part are those of the master.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pyqs_celery.backends.redis import RedisBackend
from pyqs_celery.exceptions import ImproperlyConfigured

SEPARATOR = ";"


class SentinelBackend(RedisBackend):
    """The store of ``redis://`` on whichever server is the master."""

    def _tls_class(self) -> Any:
        return self.redis.sentinel.SentinelManagedSSLConnection

    def as_uri(self, include_password: bool = False) -> str:
        """The URL, passwords shown as asterisks unless ``include_password``."""
        if include_password:
            return self.url or ""
        return SEPARATOR.join(map(_without_password, (self.url or "").split(SEPARATOR)))

    def _params_from_url(self, url: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
        hosts = [super(SentinelBackend, self)._params_from_url(part, defaults) for part in url.split(SEPARATOR) if part]
        found = {**defaults, **{name: hosts[0].get(name) for name in ("db", "username", "password")}, "hosts": hosts}
        for name in ("host", "port"):
            found.pop(name)
        return {name: value for name, value in found.items() if name != "username" or value}

    def _get_pool(self, **params: Any) -> Any:
        hosts = params.pop("hosts", None)
        if not hosts:
            raise ImproperlyConfigured("results by Sentinel need a URL: sentinel://host:26379/0;sentinel://...")
        name = self._transport_options.get("master_name")
        if not name:
            raise ImproperlyConfigured("results by Sentinel need master_name in result_backend_transport_options")
        sentinel = self.redis.sentinel.Sentinel(
            [(host["host"], host["port"]) for host in hosts],
            min_other_sentinels=self._transport_options.get("min_other_sentinels", 0),
            sentinel_kwargs=self._for_sentinels(params),
            **params,
        )
        return sentinel.master_for(name, redis_class=self._get_client()).connection_pool

    def _for_sentinels(self, params: Mapping[str, Any]) -> dict[str, Any]:
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        found = {name: value for name, value in params.items() if name.startswith("socket_")}
        # one that is down is left for the next at once
        return {**found, "retry": Retry(NoBackoff(), 0), **(self._transport_options.get("sentinel_kwargs") or {})}


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if parts.password is None:
        return url
    place = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{parts.username or ''}:**@{place}").geturl()
