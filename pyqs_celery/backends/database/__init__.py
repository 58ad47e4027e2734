"""Results in a database, by SQLAlchemy: ``db+postgresql://...``, ``db+sqlite:///results.sqlite``, or ``database_url``.

The tables and what they hold are Celery's, whichever version made them. Chords are looked after by
``celery.chord_unlock``, as in Celery, unless ``database_chord_counter`` has them counted here.
https://docs.celeryq.dev/en/stable/userguide/configuration.html#database-backend-settings
"""

from __future__ import annotations

import logging
from datetime import timedelta, timezone
from functools import partial
from typing import Any

from pyqs_celery import states
from pyqs_celery.backends.backend import Backend
from pyqs_celery.exceptions import ImproperlyConfigured, ResultTooLarge
from pyqs_celery.utils.imports import symbol_by_name
from pyqs_celery.wire import serializers
from pyqs_celery.wire.dumping import PICKLE_TYPE

try:
    import sqlalchemy as sa
except ImportError as exc:
    raise ImproperlyConfigured(
        "results in a database need SQLAlchemy: pip install 'pyqs-celery[database]', and the database's driver"
    ) from exc

from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    DisconnectionError,
    NotSupportedError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from pyqs_celery.backends.database import pickled
from pyqs_celery.backends.database.chords import ChordRows, CountedChords
from pyqs_celery.backends.database.session import Database
from pyqs_celery.backends.database.tables import NAME_CHARACTERS, Tables, utcnow

__all__ = ("DatabaseBackend",)

logger = logging.getLogger("celery.backends.database")
READ_AT_ONCE = 500
_EXTENDED = ("name", "args", "kwargs", "worker", "retries", "queue")
_READ = ("task_id", "status", "result", "date_done", "traceback", "children", *_EXTENDED, "stamps")
_TEXTS = {"traceback": None, "name": NAME_CHARACTERS, "worker": NAME_CHARACTERS, "queue": NAME_CHARACTERS}


class DatabaseBackend(CountedChords, Backend):
    """Result documents as rows of ``celery_taskmeta``, groups as rows of ``celery_tasksetmeta``.

    ``dburi`` and ``engine_options`` are those of Celery's class; what is not given is taken from the settings.
    """

    supports_native_join = True
    thread_safe = True

    def __init__(
        self,
        dburi: str | None = None,
        engine_options: dict[str, Any] | None = None,
        url: str | None = None,
        **kwargs: Any,
    ) -> None:
        short_lived = kwargs.pop("short_lived_sessions", None)
        callback = kwargs.pop("engine_callback", None)
        super().__init__(url=url, **kwargs)
        conf = self.app.conf
        self.url = url or dburi or conf.database_url
        if not self.url:
            raise ImproperlyConfigured("result_backend 'database' needs database_url, e.g. postgresql://user@host/name")
        self.engine_options = {**(conf.database_engine_options or {}), **(engine_options or {})}
        self._database = Database(
            self.url,
            self.engine_options,
            short_lived=bool(conf.database_short_lived_sessions if short_lived is None else short_lived),
            on_engine=_callable(conf.database_engine_callback if callback is None else callback),
        )
        self._tables = Tables(conf.database_table_names or {}, conf.database_table_schemas or {})
        self._chords = ChordRows(self._tables)
        if self._counts_chords:
            self.claim_chord = self._claim_chord
        if conf.database_create_tables_at_setup:
            self._create_tables()

    def _create_tables(self) -> None:
        """Make the tables now; where that cannot be done, it is tried again when they are first needed."""
        try:
            self._tables.prepare(self._database)
        except SQLAlchemyError as exc:
            logger.warning("Tables of the result back end %s cannot be made or read yet: %s", self.as_uri(), exc)

    def __reduce__(self, args: Any = (), kwargs: Any = None) -> Any:
        given = {"dburi": self.url, "expires": self.expires, "engine_options": self.engine_options}
        return super().__reduce__(args, {**(kwargs or {}), **given})

    # -- trying again ------------------------------------------------------------------------------

    def exception_safe_to_retry(self, exc: BaseException) -> bool:
        """True for all errors of the database but those of a value or a statement that it does not take."""
        if isinstance(exc, (DataError, NotSupportedError)):
            return False
        return isinstance(exc, (DBAPIError, DisconnectionError, PoolTimeout))

    def on_backend_retryable_error(self, exc: BaseException) -> None:
        """Connect again, and look at the tables again."""
        self._tables.forget()
        self._database.drop_connections()

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._database.drop_connections()

    # -- results -----------------------------------------------------------------------------------

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        meta = self._get_result_meta(result, state, traceback, request, format_date=False, encode=True)
        values = self._columns(meta)
        try:
            while not self._write(task_id, values):
                continue
        except DataError as exc:
            raise ResultTooLarge(
                f"the database does not take the result of task {task_id}: {exc.orig}", task_id=task_id, state=state
            ) from exc
        return result

    def _columns(self, meta: dict[str, Any]) -> dict[str, Any]:
        """A document as columns."""
        self._tables.prepare(self._database)
        done = meta["date_done"]
        stamped = meta.get("stamped_headers")
        stamps = {key: meta[key] for key in stamped or () if key in meta}
        row = {
            "status": meta["status"],
            "result": self._packed(meta["result"]),
            "date_done": done.astimezone(timezone.utc).replace(tzinfo=None) if done is not None else None,
            "traceback": meta["traceback"],
            "children": self._serialised(meta["children"]) if meta["children"] else None,
            "stamps": self._serialised({"stamped_headers": stamped, "stamps": stamps}) if stamped else None,
            **{key: meta.get(key) for key in _EXTENDED},
        }
        for key, limit in _TEXTS.items():
            if row[key] is not None:
                # what some databases refuse must not lose a result
                row[key] = str(row[key]).replace("\x00", "\\x00")[:limit]
        wanted = self._tables.task_columns
        if not self.app.conf.result_extended:
            wanted = wanted.difference(_EXTENDED, ["stamps"])
        return {key: value for key, value in row.items() if key in wanted}

    def _write(self, task_id: str, values: dict[str, Any]) -> bool:
        """Write over what is there, unless that is a SUCCESS. False if another worker made a row in the meantime."""
        task = self._tables.task
        mine = task.c.task_id == task_id
        unfinished = sa.or_(task.c.status.is_(None), task.c.status != states.SUCCESS)
        with self._database.writing() as connection:
            if connection.execute(task.update().where(mine, unfinished).values(values)).rowcount:
                return True
            there = connection.execute(sa.select(task.c.status).where(mine)).first()
            if there is not None:
                return bool(there.status == states.SUCCESS)
            # raises IntegrityError if somebody is faster still, and is tried again
            connection.execute(task.insert().values(task_id=task_id, **values))
            return True

    def _packed(self, value: Any) -> bytes | None:
        """A value as all versions of Celery read it: pickled, after ``result_serializer`` has had its way with it."""
        if value is None:
            return None
        content_type, encoding, payload = self._encode(value)
        if content_type == PICKLE_TYPE:
            return bytes(payload)
        data = payload.encode("utf-8") if isinstance(payload, str) else payload
        return pickled.dumps(serializers.loads(data, content_type, encoding))

    def _serialised(self, value: Any) -> bytes:
        text = self.encode(value)
        return text.encode("utf-8") if isinstance(text, str) else bytes(text)

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        for row in self._rows([task_id]):
            return self._document(row, task_id)
        return {"status": states.PENDING, "result": None, "task_id": task_id}

    def _rows(self, task_ids: list[str]) -> list[dict[str, Any]]:
        self._tables.prepare(self._database)
        task = self._tables.task
        columns = [task.c[name] for name in _READ if name in self._tables.task_columns]
        found: list[dict[str, Any]] = []
        with self._database.reading() as connection:
            for start in range(0, len(task_ids), READ_AT_ONCE):
                some = task_ids[start : start + READ_AT_ONCE]
                rows = connection.execute(sa.select(*columns).where(task.c.task_id.in_(some)))
                found += [dict(row._mapping) for row in rows]
        return found

    def _document(self, row: dict[str, Any], task_id: str) -> dict[str, Any]:
        meta = {"task_id": task_id, "status": row["status"], "traceback": row["traceback"]}
        failed = meta["status"] in self.EXCEPTION_STATES
        meta["result"] = self._unpacked(row["result"], standins=failed)
        meta["date_done"] = row["date_done"]  # UTC without a zone, as applications have it from Celery
        meta["children"] = self.decode(row.get("children"))
        for key in _EXTENDED:
            if row.get(key) is not None:
                meta[key] = self.decode(row[key]) if key in ("args", "kwargs") else row[key]
        stamps = self.decode(row.get("stamps"))
        if isinstance(stamps, dict):
            meta |= {"stamped_headers": stamps.get("stamped_headers"), **(stamps.get("stamps") or {})}
        return self.meta_from_decoded(meta)

    def _unpacked(self, data: Any, *, standins: bool = False) -> Any:
        """A value of the ``result`` column, in either form."""
        if data is None:
            return None
        data = bytes(data)
        if not pickled.is_pickle(data):
            return self.decode(data)
        trusted = PICKLE_TYPE in self.accept
        return pickled.loads(data, self.app, trusted=trusted, standins=standins)

    def _look(self, task_ids: list[str], ready: frozenset[str]) -> dict[str, dict[str, Any]]:
        found = {task_id: self._cache[task_id] for task_id in task_ids if task_id in self._cache}
        found = {task_id: meta for task_id, meta in found.items() if meta["status"] in ready}
        wanted = [task_id for task_id in task_ids if task_id not in found]
        rows = self._read(lambda _: self._rows(wanted), "", "the results of a group") if wanted else ()
        for task_id, row in {row["task_id"]: row for row in rows if row["status"] in ready}.items():
            meta = self._read(partial(self._document, row), task_id, f"the result of task {task_id}")
            found[task_id] = self._cache[task_id] = meta
        return found

    def task_result_exists(self, task_id: str) -> bool:
        """True if there is a row for a task, whatever it holds."""
        return bool(self._read(lambda _: self._rows([task_id]), task_id, f"the result of task {task_id}"))

    def _forget(self, task_id: str) -> None:
        self._tables.prepare(self._database)
        task = self._tables.task
        with self._database.writing() as connection:
            connection.execute(task.delete().where(task.c.task_id == task_id))

    # -- groups ------------------------------------------------------------------------------------

    def _save_group(self, group_id: str, result: Any) -> Any:
        self._tables.prepare(self._database)
        group = self._tables.group
        values = {"result": pickled.dumps(result), "date_done": utcnow()}
        with self._database.writing() as connection:
            changed = connection.execute(group.update().where(group.c.taskset_id == group_id).values(values)).rowcount
            if not changed:
                connection.execute(group.insert().values(taskset_id=group_id, **values))
        return result

    def _restore_group(self, group_id: str) -> dict[str, Any] | None:
        self._tables.prepare(self._database)
        group = self._tables.group
        with self._database.reading() as connection:
            row = connection.execute(
                sa.select(group.c.result, group.c.date_done).where(group.c.taskset_id == group_id)
            ).first()
        if row is None:
            return None
        value = self._unpacked(row.result)
        result = self.app.result_from_tuple(value) if value is not None else None
        return {"taskset_id": group_id, "result": result, "date_done": row.date_done}

    def _delete_group(self, group_id: str) -> None:
        self._tables.prepare(self._database)
        group = self._tables.group
        with self._database.writing() as connection:
            connection.execute(group.delete().where(group.c.taskset_id == group_id))

    # -- expiry ------------------------------------------------------------------------------------

    def cleanup(self) -> None:
        """Delete rows of what ended more than ``result_expires`` ago."""
        if self.expires:
            self._ensure_retryable(self._cleanup)
        self._cleanup_chords()

    def _cleanup(self) -> None:
        self._tables.prepare(self._database)
        before = utcnow() - timedelta(seconds=float(self.expires))
        with self._database.writing() as connection:
            for table in (self._tables.task, self._tables.group):
                connection.execute(table.delete().where(table.c.date_done < before))


def _callable(value: Any) -> Any:
    found = symbol_by_name(value)
    if found is not None and not callable(found):
        raise ImproperlyConfigured(f"database_engine_callback must be callable, not {found!r}")
    return found
