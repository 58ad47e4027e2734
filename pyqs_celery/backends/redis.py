"""Results in Redis, as Celery keeps them there: ``result_backend = "redis://host:6379/0"``.

A document is written and published on a channel of its key's name in one transaction. Whoever waits for a result
subscribes to its channel, looks, and then hears of it; Celery's clients wait in the same way.
https://docs.celeryq.dev/en/stable/userguide/configuration.html#redis-backend-settings
"""

from __future__ import annotations

import contextlib
import math
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any

from pyqs_celery import states
from pyqs_celery.backends import redis_parameters
from pyqs_celery.backends.backend import TRY_FOR_SECONDS
from pyqs_celery.backends.keyvalue import KeyValueStoreBackend
from pyqs_celery.backends.redis_chords import RedisChords
from pyqs_celery.backends.redis_subscription import Subscription, Watch
from pyqs_celery.backends.waiting import POLL_SECONDS, Deadline
from pyqs_celery.exceptions import BackendError, BackendGetMetaError, WireError

FIRST_LOOK_SECONDS = 5.0
MOST_LOOK_SECONDS = 30.0
"""Who waits for long looks by itself now and then, each time later: a message may be lost with its connection."""


class RedisBackend(RedisChords, KeyValueStoreBackend):
    """Documents by task id in Redis; one object, with its pool of connections, serves all threads."""

    supports_autoexpire = True
    joins_by_results = False
    supports_native_join = True
    supports_result_compression = True
    supports_failure_expires = True
    thread_safe = True
    max_connections: int | None = None
    _MAX_STR_VALUE_SIZE = 512 * 1024 * 1024

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        db: Any = None,
        password: str | None = None,
        max_connections: int | None = None,
        url: str | None = None,
        connection_pool: Any = None,
        **kwargs: Any,
    ) -> None:
        if host and "://" in host:
            url, host = host, None
        super().__init__(expires_type=math.ceil, url=url, **kwargs)
        conf = self.app.conf
        self.redis = redis_parameters.client_library()
        self.connection_class_ssl = self._tls_class()
        wanted = conf.result_failure_expires
        self.failure_expires = self.expires if wanted is None else self.prepare_expires(wanted, math.ceil)
        self._transport_options: Mapping[str, Any] = conf.result_backend_transport_options or {}
        wanted_connections = max_connections or conf.get("redis_max_connections") or self.max_connections
        self.connparams = redis_parameters.from_settings(conf, wanted_connections, self.connection_class_ssl)
        if url:
            self.connparams = self._params_from_url(url, self.connparams)
        redis_parameters.check_tls(self.connparams, self.redis)
        if self.compression and self.connparams.get("decode_responses"):
            warnings.warn("decode_responses reads text only: results are not compressed", UserWarning, stacklevel=2)
            self.compression = None
        more = self._transport_options.get("additional_connection_errors")
        self.connection_errors = redis_parameters.passing_errors(self.redis, more)
        self._take_retry_policy(self._transport_options.get("retry_policy") or {})
        self._pool = connection_pool
        self._client: Any = None
        self._making = threading.Lock()
        self._subscription = Subscription(self._new_pubsub, self.connection_errors)

    def _tls_class(self) -> Any:
        return self.redis.SSLConnection

    def _params_from_url(self, url: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
        return redis_parameters.with_url(url, defaults, self.redis)

    def _take_retry_policy(self, policy: Mapping[str, Any]) -> None:
        """Celery's ``retry_policy``: timeout, max_retries, interval_start, interval_max; what is not said is ours."""
        self.try_for_seconds = float(policy.get("timeout") or TRY_FOR_SECONDS)
        if policy.get("max_retries") is not None:
            self.most_tries = float(policy["max_retries"])
        if policy.get("interval_start"):
            self._first_pause = float(policy["interval_start"])
        if policy.get("interval_max"):
            self._most_pause = float(policy["interval_max"])

    def __reduce__(self, args: Any = (), kwargs: Any = None) -> Any:
        return super().__reduce__(args, {"expires": self.expires, **(kwargs or {})})

    @property
    def client(self) -> Any:
        """The client of the package ``redis``."""
        if self._client is None:
            with self._making:
                if self._client is None:
                    pool = self._pool or self._get_pool(**self.connparams)
                    self._client = self._get_client()(connection_pool=pool)
        return self._client

    def _get_client(self) -> Any:
        return self.redis.StrictRedis

    def _get_pool(self, **params: Any) -> Any:
        return self.redis.ConnectionPool(**params)

    def close(self) -> None:
        """Close all connections of this process; they are made again when they are needed."""
        self._subscription.drop()
        if self._client is not None:
            self._client.connection_pool.disconnect()

    def _new_pubsub(self) -> Any:
        return self.client.pubsub()

    # -- keys and values ---------------------------------------------------------------------------

    def exception_safe_to_retry(self, exc: BaseException) -> bool:
        """True for a Redis that cannot be reached, or that cannot answer now."""
        return isinstance(exc, self.connection_errors) or (
            isinstance(exc, self.redis.exceptions.ResponseError) and redis_parameters.is_passing_answer(exc)
        )

    def _run(self, command: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call Redis; what it refuses for good becomes a BackendError."""
        try:
            return command(*args, **kwargs)
        except self.redis.exceptions.ResponseError as exc:
            if self.exception_safe_to_retry(exc):
                raise
            raise BackendError(f"Redis refuses: {exc}") from exc

    def get(self, key: Any) -> Any:
        """The value of a key."""
        return self._run(self.client.get, key)

    def mget(self, keys: Iterable[Any]) -> Any:
        """Many values in the order of their keys."""
        return self._run(self.client.mget, list(keys))

    def set(self, key: Any, value: Any, expires: Any = None, **retry_policy: Any) -> None:
        """Write a value for ``expires`` seconds (0: for ever; None: as long as results) and publish it."""
        seconds = self.expires if expires is None else expires
        size = len(value.encode("utf-8")) if isinstance(value, str) else len(value)
        if size > self._MAX_STR_VALUE_SIZE:
            task_id = _text(key).removeprefix(_text(self.task_keyprefix))
            raise self.too_large(task_id, size, self._MAX_STR_VALUE_SIZE)
        self._run(self._write, key, value, seconds)

    def _write(self, key: Any, value: Any, seconds: Any) -> None:
        with self.client.pipeline() as pipe:
            pipe.set(key, value, ex=seconds or None)
            pipe.publish(key, value)
            try:
                pipe.execute()
            except self.redis.exceptions.ResponseError as exc:
                # the client puts the whole command before Redis's answer, and that is the document
                raise type(exc)(str(exc).rpartition(" caused error: ")[2]) from None

    def _set_with_state(self, key: Any, value: Any, state: str) -> None:
        # None stands for the usual expiry there, so that "for ever" is 0
        self.set(key, value, (self.failure_expires or 0) if state == states.FAILURE else None)

    def add(self, key: Any, value: Any, expires: float) -> bool:
        """Write a value if the key has none."""
        return bool(self._run(self.client.set, key, value, ex=math.ceil(expires) or None, nx=True))

    def incr(self, key: Any) -> int:
        """Add one."""
        return int(self._run(self.client.incr, key))

    def expire(self, key: Any, value: Any) -> Any:
        """Keep a key for so many seconds from now."""
        return self._run(self.client.expire, key, math.ceil(value)) if value else self._run(self.client.persist, key)

    def delete(self, key: Any) -> None:
        """Forget a key."""
        self._run(self.client.delete, key)

    # -- waiting -----------------------------------------------------------------------------------

    def wait_for(
        self,
        task_id: str,
        timeout: float | None = None,
        interval: float | None = POLL_SECONDS,
        no_ack: bool = True,
        on_interval: Callable[[], Any] | None = None,
        on_message: Callable[[Any], Any] | None = None,
    ) -> dict[str, Any]:
        """Wait for a task's end and give its document; woken by whoever stores it."""
        self._warn_if_eager()
        found = self.get_many([task_id], timeout, interval, no_ack, on_message, on_interval)
        with contextlib.closing(found):
            return next(meta for _, meta in found)

    def get_many(
        self,
        task_ids: Any,
        timeout: float | None = None,
        interval: float | None = POLL_SECONDS,
        no_ack: bool = True,
        on_message: Callable[[Any], Any] | None = None,
        on_interval: Callable[[], Any] | None = None,
        max_iterations: int | None = None,
        READY_STATES: frozenset[str] = states.READY_STATES,  # noqa: N803 - Celery's name
    ) -> Generator[tuple[str, dict[str, Any]], None, None]:
        """(id, document) of tasks as they end, heard on one subscription. Raises Celery's TimeoutError."""
        if max_iterations:
            arguments = (task_ids, timeout, interval, no_ack, on_message, on_interval, max_iterations, READY_STATES)
            yield from super().get_many(*arguments)
            return
        left = {self.get_key_for_task(task_id): str(task_id) for task_id in task_ids}
        hearing = Hearing(self, left, READY_STATES, on_message, on_interval)
        yield from hearing.look()
        if not left:
            return
        deadline = Deadline(timeout, self.clock)
        with self._subscription.watch(left) as watch:
            while left:
                yield from hearing.step(watch, deadline, interval or POLL_SECONDS)


class Hearing:
    """How one caller waits: it hears, it looks by itself at times, and it calls back.

    ``left`` are the channels and ids of the tasks that have not ended; those that have are taken out.
    """

    def __init__(
        self,
        backend: RedisBackend,
        left: dict[bytes, str],
        ready: frozenset[str],
        on_message: Callable[[Any], Any] | None,
        on_interval: Callable[[], Any] | None,
    ) -> None:
        self._backend = backend
        self._left = left
        self._ready = ready
        self._on_message = on_message
        self._on_interval = on_interval
        self._call_at = -math.inf
        self._look_at = math.inf
        self._look_after = FIRST_LOOK_SECONDS

    def look(self) -> list[tuple[str, dict[str, Any]]]:
        """The documents of those that have ended."""
        found = self._backend._look(list(self._left.values()), self._ready)
        for task_id, meta in found.items():
            del self._left[self._backend.get_key_for_task(task_id)]
            if self._on_message is not None:
                self._on_message(meta)
        return list(found.items())

    def step(self, watch: Watch, deadline: Deadline, interval: float) -> list[tuple[str, dict[str, Any]]]:
        """Wait for news once and give the documents of those that have ended. Raises Celery's TimeoutError."""
        subscription, clock = self._backend._subscription, self._backend.clock
        if watch.lost:
            self._confirm(watch)
            self._look_at = clock() + self._look_after
            return self.look()
        if self._on_interval is not None and clock() >= self._call_at:
            self._on_interval()
            self._call_at = clock() + interval
        until = min(self._look_at, self._call_at) if self._on_interval is not None else self._look_at
        subscription.wait(watch, max(0.0, min(deadline.pause(MOST_LOOK_SECONDS), until - clock())))
        found = self._heard(watch)
        if not found and clock() >= self._look_at:
            self._look_after = min(self._look_after * 2, MOST_LOOK_SECONDS)
            self._look_at = clock() + self._look_after
            found = self.look()
            if found and not watch.has_news:  # it was published and not heard
                subscription.drop()
        return found

    def _confirm(self, watch: Watch) -> None:
        self._backend._ensure_retryable(
            self._backend._subscription.confirm,
            watch,
            fallback_exc=BackendGetMetaError,
            fallback_msg="news of results cannot be subscribed to",
        )

    def _heard(self, watch: Watch) -> list[tuple[str, dict[str, Any]]]:
        found = []
        for channel, data in watch.take():
            if channel not in self._left:
                continue
            try:
                meta = self._backend.decode_result(data)
            except (WireError, ValueError, TypeError, KeyError):
                watch.lost = True  # what is stored tells whether it is really no document
                continue
            if self._on_message is not None:
                self._on_message(meta)
            if meta["status"] in self._ready:
                task_id = self._left.pop(channel)
                self._backend._cache[task_id] = meta
                found.append((task_id, meta))
        return found


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, (bytes, bytearray)) else str(value)


def __getattr__(name: str) -> Any:
    if name == "SentinelBackend":
        from pyqs_celery.backends.sentinel import SentinelBackend

        return SentinelBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
