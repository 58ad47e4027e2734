"""Results in memcached: ``cache+memcached://host:11211;host2:11211/``, or ``cache`` and the setting ``cache_backend``.

The package is pymemcache, whichever of Celery's names the URL has (memcached, memcache, pymemcache, pylibmc). A server that
does not answer is an error, never an empty answer: the message of a task whose result was not kept must come again.
https://docs.celeryq.dev/en/stable/userguide/configuration.html#cache-backend-settings
"""

from __future__ import annotations

import re
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from pyqs_celery.backends.keyvalue import KeyValueStoreBackend
from pyqs_celery.backends.memory import MemoryBackend
from pyqs_celery.exceptions import BackendError, ImproperlyConfigured

NAMES = ("memcached", "memcache", "pymemcache", "pylibmc")
MOST_KEY_BYTES = 250
MOST_VALUE_BYTES = 1024 * 1024
"""What a server takes unless it was started with another ``-I``."""
MOST_RELATIVE_SECONDS = 30 * 86_400
"""Memcached takes a larger expiry for a time of day."""
_CLIENT_DEFAULTS = {"connect_timeout": 5.0, "timeout": 5.0, "default_noreply": False, "ignore_exc": False}
# Celery hands these to other clients, or to a wrapper that tries again, as our base does anyhow
_IGNORED = ("behaviors", "binary", "retry_attempts", "retry_delay", "retry_for", "do_not_retry_for")


class Servers:
    """The clients of all servers; keys are spread over them as pymemcache's HashClient spreads them, so as in Celery.

    Unlike there, the keys of a server that is down are not looked for on the others.
    """

    def __init__(self, addresses: Iterable[str], options: Mapping[str, Any]) -> None:
        self._clients: dict[str, Any] = {}
        try:
            from pymemcache.client.base import PooledClient, normalize_server_spec
            from pymemcache.client.rendezvous import RendezvousHash
        except ImportError as exc:
            raise ImproperlyConfigured(
                "results in memcached need the package pymemcache: pip install 'pyqs-celery[memcached]'"
            ) from exc
        for address in addresses:
            try:
                server = normalize_server_spec(address)
                client = PooledClient(server, **{**_CLIENT_DEFAULTS, **options})
            except (TypeError, ValueError) as exc:
                raise ImproperlyConfigured(f"memcached at {address!r} with {options!r} cannot be used: {exc}") from exc
            self._clients[server if isinstance(server, str) else "{}:{}".format(*server)] = client
        self._hash = RendezvousHash(nodes=list(self._clients))

    def of(self, key: str) -> Any:
        """The client of a key."""
        return self._clients[self._hash.get_node(key)]

    def by_client(self, keys: Iterable[str]) -> dict[Any, list[str]]:
        """Keys by the client that has them."""
        found = defaultdict(list)
        for key in keys:
            found[self.of(key)].append(key)
        return found

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            client.close()

    # pymemcache leaves its sockets open
    __del__ = close


class CacheBackend(KeyValueStoreBackend):
    """Documents by task id in one or several memcached servers."""

    supports_autoexpire = True
    supports_native_join = True
    implements_incr = True
    thread_safe = True

    def __new__(cls, app: Any, *_: Any, **kwargs: Any) -> Any:
        """A MemoryBackend where ``cache_backend`` is ``memory``."""
        place = kwargs.get("url") or kwargs.get("backend") or app.conf.cache_backend or ""
        if place.partition("://")[0] == "memory":
            return MemoryBackend(app, url=f"cache+memory://{place.partition('://')[2]}")
        return super().__new__(cls)

    def __init__(
        self,
        app: Any,
        expires: Any = None,
        backend: str | None = None,
        options: Mapping[str, Any] | None = None,
        url: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.key_t = _text
        super().__init__(app, url=url, expires=expires, expires_type=int, **kwargs)
        place: str = url or backend or app.conf.cache_backend or ""
        self.backend, _, places = place.partition("://")
        if self.backend not in NAMES:
            raise ImproperlyConfigured(
                f"cache_backend {self.backend!r} is not known here: use memcached://host:port;host2:port/ or memory://"
            )
        self.servers = [place for place in places.rstrip("/").split(";") if place]
        if not self.servers:
            raise ImproperlyConfigured("results in memcached need a server: cache+memcached://host:11211/")
        self.options = {**(app.conf.cache_backend_options or {}), **(options or {})}
        ignored = [name for name in _IGNORED if name in self.options]
        if ignored:
            warnings.warn(f"cache_backend_options: {', '.join(ignored)} mean nothing here", UserWarning, stacklevel=2)
        self.client = Servers(self.servers, {name: self.options[name] for name in self.options if name not in _IGNORED})

    def __reduce__(self, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = {"backend": self.as_uri(), "expires": self.expires, "options": self.options, **(kwargs or {})}
        return super().__reduce__(args, kwargs)

    def as_uri(self, include_password: bool = False) -> str:
        """Where results are kept."""
        return f"{self.backend}://{';'.join(self.servers)}/"

    def close(self) -> None:
        """Close all connections; they are made again when they are needed."""
        self.client.close()

    # -- keys and values ---------------------------------------------------------------------------

    def exception_safe_to_retry(self, exc: BaseException) -> bool:
        """True for a server that cannot be reached, or that has no memory left now."""
        from pymemcache.exceptions import MemcacheServerError

        return isinstance(exc, (OSError, MemcacheServerError))

    def _key(self, prefix: Any, name: str, value: Any, suffix: Any) -> Any:
        key: str = super()._key(prefix, name, value, suffix)
        if len(key) > MOST_KEY_BYTES or not re.fullmatch("[!-~]+", key):
            raise BackendError(
                f"{name} {value!r} cannot be a key in memcached: {MOST_KEY_BYTES} characters at most with its prefix, "
                "no spaces, only ASCII"
            )
        return key

    def get(self, key: Any) -> Any:
        """The value of a key."""
        return self.client.of(key).get(key)

    def mget(self, keys: Iterable[Any]) -> dict[Any, Any]:
        """Many values by their keys."""
        found: dict[Any, Any] = {}
        for client, some in self.client.by_client(keys).items():
            found |= client.get_many(some)
        return found

    def set(self, key: Any, value: Any) -> None:
        """Write a value for as long as results are kept."""
        self._write(key, value, self.expires)

    def _write(self, key: str, value: Any, seconds: Any) -> None:
        from pymemcache.exceptions import MemcacheServerError

        data = value.encode("utf-8") if isinstance(value, str) else value
        try:
            kept = self.client.of(key).set(key, data, _expiry(seconds))
        except MemcacheServerError as exc:
            if "too large" not in str(exc):
                raise
            raise self.too_large(key.removeprefix(self.task_keyprefix), len(data), MOST_VALUE_BYTES) from exc
        if not kept:
            raise OSError(f"memcached did not keep {key}")

    def add(self, key: Any, value: Any, expires: float) -> bool:
        """Write a value if the key has none."""
        return bool(self.client.of(key).add(key, value.encode("utf-8"), _expiry(expires)))

    def incr(self, key: Any) -> int:
        """Add one. Raises KeyError if memcached has dropped the number."""
        found = self.client.of(key).incr(key, 1)
        if found is None:
            raise KeyError(key)
        return int(found)

    def expire(self, key: Any, value: Any) -> None:
        """Keep a key for so many seconds from now."""
        self.client.of(key).touch(key, _expiry(value))

    def delete(self, key: Any) -> None:
        """Forget a key."""
        self.client.of(key).delete(key)

    # -- chords ------------------------------------------------------------------------------------

    def _reset_chord(self, group_id: str, size: int) -> None:
        super()._reset_chord(group_id, size)
        self._write(self.get_key_for_chord(group_id), "0", self.chord_expires)

    def count_chord_part(self, group_id: str, part: str) -> tuple[int, bool]:
        """Count each report, as Celery does: a count that is high enough has the members' results looked at.

        So does a counter that memcached has dropped.
        """
        try:
            return self.incr(self.get_key_for_chord(group_id)), True
        except KeyError:
            return sys.maxsize, True


def _expiry(seconds: Any) -> int:
    """As memcached takes it: 0 for ever, many seconds as a time of day."""
    whole = int(seconds or 0)
    return whole if whole <= MOST_RELATIVE_SECONDS else int(time.time()) + whole


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, (bytes, bytearray)) else str(value)
