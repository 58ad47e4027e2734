"""Results in this process, for tests: ``result_backend = "cache+memory://"``.

Documents are serialised as in a real store. Processes do not see each other's, so it goes with ``memory://`` queues and
the threads pool.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from pyqs_celery import states
from pyqs_celery.backends.keyvalue import KeyValueStoreBackend
from pyqs_celery.backends.waiting import Deadline, refuse_on_message


class Store:
    """Values by key, until they expire. One lock serves all; who waits is woken by every write."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self._values: dict[Any, tuple[Any, float | None]] = {}

    def get(self, key: Any) -> Any:
        """The value of a key that has not expired."""
        value, until = self._values.get(key, (None, None))
        if until is not None and time.monotonic() >= until:
            del self._values[key]
            return None
        return value

    def put(self, key: Any, value: Any, seconds: float | None) -> None:
        """Write a value; ``seconds`` None or 0 keeps it for ever."""
        self._values[key] = (value, time.monotonic() + seconds if seconds else None)
        self.changed.notify_all()

    def drop(self, key: Any) -> None:
        """Forget a key."""
        self._values.pop(key, None)

    def drop_all(self, start: Any) -> None:
        """Forget all keys that begin so."""
        for key in [key for key in self._values if key.startswith(start)]:
            del self._values[key]


_STORES: dict[str, Store] = {}


class MemoryBackend(KeyValueStoreBackend):
    """Result documents by task id, shared by all applications of the process that use one URL."""

    supports_autoexpire = True
    supports_native_join = True
    supports_result_compression = True
    implements_incr = True
    thread_safe = True

    def __init__(self, app: Any, url: str = "cache+memory://", **kwargs: Any) -> None:
        super().__init__(app, url=url, **kwargs)
        self._store = _STORES.setdefault(url, Store())

    def get(self, key: Any) -> Any:
        """The value of a key."""
        with self._store.changed:
            return self._store.get(key)

    def mget(self, keys: Iterable[Any]) -> list[Any]:
        """Many of them."""
        with self._store.changed:
            return [self._store.get(key) for key in keys]

    def set(self, key: Any, value: Any) -> None:
        """Write a value."""
        with self._store.changed:
            self._store.put(key, value, self.expires)

    def add(self, key: Any, value: Any, expires: float) -> bool:
        """Write a value if there is none."""
        with self._store.changed:
            if self._store.get(key) is not None:
                return False
            self._store.put(key, value, expires)
            return True

    def incr(self, key: Any) -> int:
        """Add one."""
        with self._store.changed:
            count = int(self._store.get(key) or 0) + 1
            self._store.put(key, str(count), self.chord_expires)
            return count

    def expire(self, key: Any, value: Any) -> None:
        """Keep a key for so many seconds from now."""
        with self._store.changed:
            found = self._store.get(key)
            if found is not None:
                self._store.put(key, found, value)

    def delete(self, key: Any) -> None:
        """Forget a key."""
        with self._store.changed:
            self._store.drop(key)

    def _reset_chord(self, group_id: str, size: int) -> None:
        with self._store.changed:
            self._store.drop_all(self.get_key_for_chord(group_id))

    def wait_for(
        self,
        task_id: str,
        timeout: float | None = None,
        interval: float | None = None,
        no_ack: bool = True,
        on_interval: Callable[[], Any] | None = None,
        on_message: Callable[[Any], Any] | None = None,
    ) -> dict[str, Any]:
        """Wait until the task has ended; woken by whoever stores."""
        refuse_on_message(on_message)
        deadline = Deadline(timeout)
        while True:
            with self._store.changed:
                meta = self.get_task_meta(task_id)
                if meta["status"] in states.READY_STATES:
                    return meta
                self._store.changed.wait(deadline.pause(interval or 60.0))
            if on_interval is not None:
                on_interval()
