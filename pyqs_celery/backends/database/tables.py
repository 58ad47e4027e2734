"""The tables of results: Celery's two, with whatever columns its version gave them, and our own two for chords.

https://docs.celeryq.dev/en/stable/internals/reference/celery.backends.database.models.html
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from pyqs_celery.backends.database.session import Database

TASKS, GROUPS = "celery_taskmeta", "celery_tasksetmeta"
CHORDS, CHORD_PARTS = "pyqs_celery_chord", "pyqs_celery_chord_part"
NAME_CHARACTERS = 155
STATUS_CHARACTERS = 50


def utcnow() -> datetime:
    """The time as these tables hold it: UTC without saying so."""
    return datetime.now(timezone.utc).replace(tzinfo=None)


class Tables:
    """``task`` and ``group`` are Celery's; ``chord`` and ``part`` are made when chords are first counted.

    ``names`` and ``schemas`` are ``database_table_names`` and ``database_table_schemas``, by these four words; chords
    are where groups are unless they have a schema of their own.
    """

    def __init__(self, names: Mapping[str, str], schemas: Mapping[str, str]) -> None:
        metadata = sa.MetaData()
        self.task = _task_table(metadata, names.get("task") or TASKS, schemas.get("task"))
        self.group = _group_table(metadata, names.get("group") or GROUPS, schemas.get("group"))
        schema = schemas.get("chord") or schemas.get("group")
        self.chord = _chord_table(metadata, names.get("chord") or CHORDS, schema)
        self.part = _part_table(metadata, names.get("part") or CHORD_PARTS, schema)
        self.task_columns: frozenset[str] = frozenset()
        self._ready: set[Any] = set()

    def forget(self) -> None:
        """Look again before the next use."""
        self._ready.clear()

    def prepare(self, database: Database) -> None:
        """Make Celery's tables where they are missing, and see which columns the tasks' table has."""
        if self.task in self._ready:
            return
        _create(database, [self.task, self.group])
        with database.reading() as connection:
            found = sa.inspect(connection).get_columns(self.task.name, schema=self.task.schema)
        self.task_columns = frozenset(column["name"] for column in found)
        self._ready.add(self.task)

    def prepare_chords(self, database: Database) -> None:
        """Make our tables where they are missing."""
        if self.chord not in self._ready:
            _create(database, [self.chord, self.part])
            self._ready.add(self.chord)


def _create(database: Database, tables: list[sa.Table]) -> None:
    """Make tables that are missing; another process may do so at the same time."""
    metadata = tables[0].metadata
    try:
        with database.writing() as connection:
            metadata.create_all(connection, tables=tables)
    except DBAPIError:
        with database.reading() as connection:
            inspector = sa.inspect(connection)
            if not all(inspector.has_table(table.name, schema=table.schema) for table in tables):
                raise


def _whole() -> Any:
    return sa.Integer().with_variant(sa.BigInteger(), "mssql")


def _task_table(metadata: sa.MetaData, name: str, schema: str | None) -> sa.Table:
    return sa.Table(
        name,
        metadata,
        sa.Column("id", _whole(), sa.Sequence("task_id_sequence", schema=schema), primary_key=True, autoincrement=True),
        sa.Column("task_id", sa.String(NAME_CHARACTERS), unique=True),
        sa.Column("status", sa.String(STATUS_CHARACTERS)),
        sa.Column("result", sa.LargeBinary),
        sa.Column("date_done", sa.DateTime, index=True),
        sa.Column("traceback", sa.Text),
        sa.Column("children", sa.LargeBinary),
        sa.Column("name", sa.String(NAME_CHARACTERS)),
        sa.Column("args", sa.LargeBinary),
        sa.Column("kwargs", sa.LargeBinary),
        sa.Column("worker", sa.String(NAME_CHARACTERS)),
        sa.Column("retries", sa.Integer),
        sa.Column("queue", sa.String(NAME_CHARACTERS)),
        sa.Column("stamps", sa.LargeBinary),
        schema=schema,
        sqlite_autoincrement=True,
    )


def _group_table(metadata: sa.MetaData, name: str, schema: str | None) -> sa.Table:
    sequence = sa.Sequence("taskset_id_sequence", schema=schema)
    return sa.Table(
        name,
        metadata,
        sa.Column("id", _whole(), sequence, primary_key=True, autoincrement=True),
        sa.Column("taskset_id", sa.String(NAME_CHARACTERS), unique=True),
        sa.Column("result", sa.LargeBinary),
        sa.Column("date_done", sa.DateTime, index=True),
        schema=schema,
        sqlite_autoincrement=True,
    )


def _chord_table(metadata: sa.MetaData, name: str, schema: str | None) -> sa.Table:
    return sa.Table(
        name,
        metadata,
        sa.Column("group_id", sa.String(NAME_CHARACTERS), primary_key=True),
        sa.Column("size", sa.Integer),
        sa.Column("counted", sa.Integer, nullable=False),
        sa.Column("members", sa.Text),
        sa.Column("is_done", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("token", sa.String(STATUS_CHARACTERS)),
        sa.Column("claimed_until_ms", sa.BigInteger),
        sa.Column("changed", sa.DateTime, nullable=False, index=True),
        schema=schema,
    )


def _part_table(metadata: sa.MetaData, name: str, schema: str | None) -> sa.Table:
    return sa.Table(
        name,
        metadata,
        sa.Column("group_id", sa.String(NAME_CHARACTERS), primary_key=True),
        sa.Column("part", sa.String(NAME_CHARACTERS + 30), primary_key=True),
        schema=schema,
    )
