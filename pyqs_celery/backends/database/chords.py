"""Chords that are counted in the database: ``database_chord_counter``, where all workers are pyqs-celery's.

A row for each chord, which is locked while a member is counted, and one for each member that has been. Rows of chords that
are done stay until ``cleanup``, for members that report again. A chord without a row is somebody else's: Celery sent it,
together with a task that looks after it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from pyqs_celery.backends import chords
from pyqs_celery.backends.database.tables import utcnow
from pyqs_celery.backends.spreading import Spreading
from pyqs_celery.exceptions import BackendStoreError

if TYPE_CHECKING:
    from pyqs_celery.backends.database.session import Database
    from pyqs_celery.backends.database.tables import Tables

COUNTED, FOREIGN = "counted", "foreign"


class Counted(NamedTuple):
    """What came of a member's report; ``again``: the chord was claimed before, so its body may be called."""

    answer: str
    again: bool = False
    members: str = "[]"


class CountedChords(Spreading):
    """The mixin of ``DatabaseBackend`` for chords; it does nothing unless ``database_chord_counter`` is set."""

    expires: Any
    prepare_expires: Callable[..., Any]
    _ensure_retryable: Callable[..., Any]
    _database: Database
    _tables: Tables
    _chords: ChordRows
    claim_chord: Callable[[str, str, int], str] | None = None
    """Set where chords are counted: asks for the right to complete one: "won", "held" by another for now, or "done"."""

    @property
    def _counts_chords(self) -> bool:
        return bool(self.app.conf.database_chord_counter)

    # -- what producers call -----------------------------------------------------------------------

    def apply_chord(self, header_result_args: tuple[Any, ...], body: Any, **kwargs: Any) -> None:
        """Write the chord's row, in place of one from an earlier run; or send the task that looks."""
        if not self._counts_chords:
            super().apply_chord(header_result_args, body, **kwargs)
            return
        self.ensure_chords_allowed()
        group = self.app.GroupResult(*header_result_args)
        size = body.get("chord_size") or chords.parts(group)
        self._for_chord(group.id, self._chords.begin, size, json.dumps([each.as_tuple() for each in group.results]))

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        """How many times members will report."""
        if self._counts_chords:
            self._for_chord(group_id, self._chords.resize, chord_size)

    # -- what workers call -------------------------------------------------------------------------

    def on_chord_part_return(self, request: Any, state: str, result: Any, **kwargs: Any) -> None:
        """Count a member; who finds all counted calls the body, unless that is done."""
        if not self._counts_chords or not request.group:
            return
        found = Counted(COUNTED)

        def claim(token: str, seconds: int) -> str:
            nonlocal found
            found = self._for_chord(request.group, self._chords.count, chords.part_of(request), token, seconds)
            return str(found.answer)

        token, waited = chords.claimed(self, request.group, claim)
        if token is not None:
            self._complete(request, token, json.loads(found.members), doubtful=waited or found.again)

    def _complete(self, request: Any, token: str, members: list[Any], *, doubtful: bool) -> None:
        group_id = request.group
        group = self.app.GroupResult(group_id, [self.app.result_from_tuple(each) for each in members])
        try:
            if not doubtful or not chords.is_called(self, request):
                chords.call_body(self, request, lambda: self._values(group, token), lambda: group.results)
        except BaseException:
            self.drop_chord_claim(group_id, token)
            raise
        self.mark_chord_done(group_id)

    def _values(self, group: Any, token: str) -> list[Any]:
        """The members' values, with the claim still ours."""
        found = chords.joined(self, group)
        if not self._for_chord(group.id, self._chords.extend, token, chords.claim_seconds(self.app)):
            raise BackendStoreError(f"chord {group.id} took too long here and is being completed by another worker")
        return found

    def _claim_chord(self, group_id: str, token: str, seconds: int) -> str:
        """For the task that looks after a chord: Celery may have sent it, so that there is no row yet."""
        return str(self._for_chord(group_id, self._chords.claim_anyhow, token, seconds))

    def drop_chord_claim(self, group_id: str, token: str | None = None) -> None:
        """The body could not be called; somebody else may."""
        self._for_chord(group_id, self._chords.drop, token)

    def mark_chord_done(self, group_id: str) -> None:
        """The body's message is safe: whoever reports late does nothing."""
        self._for_chord(group_id, self._chords.finish)

    def _for_chord(self, group_id: str, func: Callable[..., Any], *args: Any) -> Any:
        """Do something with a chord's rows in one transaction. Raises BackendStoreError if the database is away."""

        def call() -> Any:
            self._tables.prepare_chords(self._database)
            with self._database.writing() as connection:
                return func(connection, group_id, *args)

        return self._ensure_retryable(call, fallback_exc=BackendStoreError, fallback_msg=f"chord {group_id} is stuck")

    def _cleanup_chords(self) -> None:
        wanted = self.app.conf.result_chord_expires
        seconds = self.expires if wanted is None else self.prepare_expires(wanted)
        if self._counts_chords and seconds:
            self._for_chord("that have expired", self._chords.delete_old, utcnow() - timedelta(seconds=float(seconds)))


class ChordRows:
    """The statements: each takes a connection in a transaction, and the chord's group id."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def begin(self, connection: Any, group_id: str, size: int, members: str) -> None:
        """Write the chord's row, in place of one from an earlier run."""
        chord, part = self._tables.chord, self._tables.part
        for table in (part, chord):
            connection.execute(table.delete().where(table.c.group_id == group_id))
        row = {"size": size, "members": members, "counted": 0, "is_done": False, "changed": utcnow()}
        connection.execute(chord.insert().values(group_id=group_id, **row))

    def resize(self, connection: Any, group_id: str, size: int) -> None:
        """How often members will report."""
        self._change(connection, group_id, size=size)

    def _change(self, connection: Any, group_id: str, holder: str | None = None, **values: Any) -> bool:
        """Change a chord's row and so lock it; with ``holder`` only if that has the claim. False if there is none."""
        chord = self._tables.chord
        where = [chord.c.group_id == group_id]
        if holder is not None:
            where.append(chord.c.token == holder)
        return bool(connection.execute(chord.update().where(*where).values(changed=utcnow(), **values)).rowcount)

    def _row(self, connection: Any, group_id: str) -> Any:
        """Its row."""
        chord = self._tables.chord
        return connection.execute(sa.select(chord).where(chord.c.group_id == group_id)).first()

    def count(self, connection: Any, group_id: str, name: str, token: str, seconds: int) -> Counted:
        """Count a member that was not counted before, and claim the chord if all are."""
        part = self._tables.part
        if not self._change(connection, group_id):
            return Counted(FOREIGN)
        row = self._row(connection, group_id)
        if row.size is None or row.is_done:
            return Counted(chords.DONE)
        counted = row.counted
        mine = sa.select(part.c.part).where(part.c.group_id == group_id, part.c.part == name)
        if connection.execute(mine).first() is None:
            connection.execute(part.insert().values(group_id=group_id, part=name))
            counted += 1
            self._change(connection, group_id, counted=counted)
        if counted < row.size:
            return Counted(COUNTED)
        return Counted(self.claim(connection, row, token, seconds), row.token is not None, row.members)

    def claim(self, connection: Any, row: Any, token: str, seconds: int) -> str:
        """Claim a chord whose row is locked."""
        if row.is_done:
            return chords.DONE
        if row.token is not None and (row.claimed_until_ms or 0) > _now_ms():
            return "held"
        self._change(connection, row.group_id, **_held(token, seconds))
        return "won"

    def claim_anyhow(self, connection: Any, group_id: str, token: str, seconds: int) -> str:
        """Claim a chord that may have no row."""
        if self._change(connection, group_id):
            return self.claim(connection, self._row(connection, group_id), token, seconds)
        row = {"counted": 0, "is_done": False, "changed": utcnow(), **_held(token, seconds)}
        connection.execute(self._tables.chord.insert().values(group_id=group_id, **row))
        return "won"

    def extend(self, connection: Any, group_id: str, token: str, seconds: int) -> bool:
        """Claim it for longer. False if another has claimed it."""
        return self._change(connection, group_id, token, **_held(token, seconds))

    def drop(self, connection: Any, group_id: str, token: str | None) -> None:
        """End a claim."""
        # the token stays: what is completed after this was tried before
        self._change(connection, group_id, token, claimed_until_ms=0)

    def finish(self, connection: Any, group_id: str) -> None:
        """Nothing is left to do but to remember it."""
        part = self._tables.part
        self._change(connection, group_id, is_done=True)
        connection.execute(part.delete().where(part.c.group_id == group_id))

    def delete_old(self, connection: Any, _: str, before: Any) -> None:
        """Forget chords of which nothing was heard since then."""
        chord, part = self._tables.chord, self._tables.part
        old = sa.select(chord.c.group_id).where(chord.c.changed < before)
        connection.execute(part.delete().where(part.c.group_id.in_(old)))
        connection.execute(chord.delete().where(chord.c.changed < before))


def _held(token: str, seconds: int) -> dict[str, Any]:
    return {"token": token, "claimed_until_ms": _now_ms() + seconds * 1000}


def _now_ms() -> int:
    return int(time.time() * 1000)
