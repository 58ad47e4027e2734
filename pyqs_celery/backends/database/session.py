"""A database and its connections: made when they are first needed, and never shared over a fork.

Transactions that write begin as such on SQLite too, so that two processes wait for one another instead of failing.
https://docs.sqlalchemy.org/en/20/core/pooling.html#using-connection-pools-with-multiprocessing-or-os-fork
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import NullPool, QueuePool

from pyqs_celery.exceptions import ImproperlyConfigured

CONNECT_SECONDS = 10
"""How long to wait for a server that does not answer, unless the URL or ``connect_args`` say otherwise."""
BUSY_SECONDS = 20
"""How long SQLite waits for other processes that write, unless the URL or ``connect_args`` say otherwise."""
_CONNECT_TIMEOUT = {
    "psycopg": "connect_timeout",
    "psycopg2": "connect_timeout",
    "pymysql": "connect_timeout",
    "mysqldb": "connect_timeout",
    "mysqlconnector": "connection_timeout",
}
_FOR_POOLS = frozenset({"pool_size", "max_overflow", "pool_timeout", "pool_use_lifo", "echo_pool", "poolclass"})
_WRITES = "pyqs_celery_writes"


class Database:
    """One database, for all threads of a process.

    ``short_lived`` opens a connection for each transaction. ``on_engine`` is called with SQLAlchemy's engine once it is
    made. Raises ImproperlyConfigured for a URL that SQLAlchemy does not take or whose driver is not installed.
    """

    def __init__(
        self,
        url: str,
        options: Mapping[str, Any],
        short_lived: bool = False,
        on_engine: Callable[[Any], Any] | None = None,
    ) -> None:
        self._on_engine = on_engine
        self._lock = threading.Lock()
        self._made: list[sa.engine.Engine] = []
        weakref.finalize(self, _close, self._made)
        try:
            self._url = sa.engine.make_url(url)
            self._options = _options(self._url, dict(options), short_lived)
            self.engine()
        except (ArgumentError, NoSuchModuleError, ImportError) as exc:
            raise ImproperlyConfigured(f"the URL of the results' database cannot be used: {exc}") from exc
        _ALL.add(self)

    def engine(self) -> sa.engine.Engine:
        """SQLAlchemy's engine of this process."""
        with self._lock:
            if not self._made:
                engine = sa.create_engine(self._url, **self._options)
                if engine.dialect.name == "sqlite":
                    event.listen(engine, "connect", _leave_transactions_to_us)
                    event.listen(engine, "begin", _begin)
                if self._on_engine is not None:
                    self._on_engine(engine)
                self._made.append(engine)
            return self._made[0]

    @contextmanager
    def reading(self) -> Iterator[sa.engine.Connection]:
        """A connection in a transaction that only reads."""
        with self.engine().begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.engine.Connection]:
        """A connection in a transaction that writes; it is committed at the end, or rolled back after an error."""
        with self.engine().execution_options(**{_WRITES: True}).begin() as connection:
            yield connection

    def drop_connections(self) -> None:
        """Close those that are not in use; new ones are made when needed."""
        if not _is_in_memory(self._url):
            _close(self._made)

    def leave_to_parent(self) -> None:
        """In a fresh child: keep what was inherited, so that it is never closed here, and begin anew."""
        _INHERITED.extend(self._made)
        self._made.clear()
        self._lock = threading.Lock()


_ALL: weakref.WeakSet[Database] = weakref.WeakSet()
_INHERITED: list[Any] = []


def _close(engines: list[Any]) -> None:
    for engine in engines:
        engine.dispose()


def _after_fork() -> None:
    for database in list(_ALL):
        database.leave_to_parent()


os.register_at_fork(after_in_child=_after_fork)


def _options(url: Any, options: dict[str, Any], short_lived: bool) -> dict[str, Any]:
    connect = dict(options.get("connect_args") or {})
    if _is_in_memory(url):
        # all threads share the one connection that has the data, in turns
        kept = {key: value for key, value in options.items() if not key.startswith("pool") and key != "max_overflow"}
        connect["check_same_thread"] = False
        return {**kept, "connect_args": connect, "poolclass": QueuePool, "pool_size": 1, "max_overflow": 0}
    if short_lived:
        options = {key: value for key, value in options.items() if key not in _FOR_POOLS}
        options["poolclass"] = NullPool
    backend, driver = url.get_backend_name(), url.get_driver_name()
    name, seconds = _CONNECT_TIMEOUT.get(driver), CONNECT_SECONDS
    if backend == "sqlite":
        name, seconds = "timeout", BUSY_SECONDS
    if name is not None and name not in url.query:
        connect.setdefault(name, seconds)
    return {**options, "connect_args": connect}


def _is_in_memory(url: Any) -> bool:
    return bool(url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"))


def _leave_transactions_to_us(connection: Any, _record: Any) -> None:
    """Python's sqlite3 would begin a transaction at the first write only, which is too late to wait for another's."""
    connection.isolation_level = None


def _begin(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITES) else "BEGIN")
