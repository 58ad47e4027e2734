"""``result_backend = "django-db"``: the back end of django-celery-results, with what SQS's deliveries ask of it.

A task may be delivered again, and a process may be killed anywhere. So a success stays, a chord's member is counted once,
which its row remembers, and a chord that is complete is forgotten only when its body has been sent.
https://django-celery-results.readthedocs.io/
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from django.db import DatabaseError, DataError, InterfaceError, NotSupportedError, connections, router, transaction
from django.db.models import F

from pyqs_celery import states
from pyqs_celery.backends import chords
from pyqs_celery.exceptions import BackendStoreError, ImproperlyConfigured, WireError

try:
    from django_celery_results.backends import DatabaseBackend as TheirBackend
    from django_celery_results.models import ChordCounter
except ModuleNotFoundError as exc:
    if exc.name != "django_celery_results":
        raise
    raise ImproperlyConfigured("result_backend 'django-db' needs: pip install django-celery-results") from exc
except RuntimeError as exc:
    raise ImproperlyConfigured(
        "result_backend 'django-db' needs 'django_celery_results' in INSTALLED_APPS, and manage.py migrate"
    ) from exc

COUNTED = "pyqs_celery_counted_in"
"""Where the ``meta`` of a member's row names the counter that has counted it."""


class DatabaseBackend(TheirBackend):  # type: ignore[misc]  # it has no types
    """Results as rows of django-celery-results' models."""

    @property
    def _database(self) -> str:
        return str(router.db_for_write(self.TaskModel))

    # -- trying again ------------------------------------------------------------------------------

    def exception_safe_to_retry(self, exc: BaseException) -> bool:
        """True for an error of the database that may pass, outside of a transaction, which it would have spoilt."""
        if isinstance(exc, (DataError, NotSupportedError)) or not isinstance(exc, (DatabaseError, InterfaceError)):
            return False
        return not connections[self._database].in_atomic_block

    def on_backend_retryable_error(self, exc: BaseException) -> None:
        """Connect again."""
        connections[self._database].close()

    # -- results -----------------------------------------------------------------------------------

    def _store_result(
        self,
        task_id: str,
        result: Any,
        status: str,
        traceback: Any = None,
        request: Any = None,
        using: str | None = None,
    ) -> Any:
        using = using or self._database
        rows = self.TaskModel._default_manager.using(using).filter(task_id=task_id)
        with transaction.atomic(using=using):
            # an UPDATE first: it waits for others everywhere, where a SELECT could not be followed by one on SQLite
            before = rows.first() if rows.update(task_id=task_id) else None
            if before is not None and before.status == states.SUCCESS:
                return result
            stored = super()._store_result(task_id, result, status, traceback, request, using)
            counted_in = self._counted_in(before)
            if counted_in is not None:
                self._mark(rows, counted_in)
        return stored

    def _get_extended_properties(self, request: Any, traceback: Any) -> dict[str, Any]:
        # inside a transaction, trying again would only hide the first error; we try again outside of it
        return {**super()._get_extended_properties(request, traceback), "exception_retry_count": 0}

    def _delete_group(self, group_id: str) -> None:
        self.GroupModel._default_manager.filter(group_id=group_id).delete()

    # -- chords ------------------------------------------------------------------------------------

    def apply_chord(self, header_result_args: Any, body: Any, **kwargs: Any) -> None:
        """Write the counter, in place of one from an earlier run."""
        group = self.app.GroupResult(*header_result_args)
        size = body.get("chord_size") or chords.parts(group)
        self._ensure_retryable(self._begin, (group.id, group.results), {**body, "chord_size": size})

    def _begin(self, header_result_args: Any, body: Any) -> None:
        with transaction.atomic(using=router.db_for_write(ChordCounter)):
            ChordCounter.objects.filter(group_id=header_result_args[0]).delete()
            super().apply_chord(header_result_args, body)

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        """How many times members will report."""
        self._ensure_retryable(lambda: ChordCounter.objects.filter(group_id=group_id).update(count=chord_size))

    def on_chord_part_return(self, request: Any, state: str, result: Any, **kwargs: Any) -> None:
        """Count a member; who finds all counted calls the body, unless that is done."""
        if not request.id or not request.group:
            return
        told = {"fallback_exc": BackendStoreError, "fallback_msg": f"the chord of task {request.id} cannot be counted"}
        counter, again = self._ensure_retryable(self._count, request, **told)
        if counter is not None and counter.count <= 0:
            group = counter.group_result(app=self.app)
            values = self._values_of(group)
            self._ensure_retryable(self._complete, request, group, values, _Tries(again), **told)

    def _count(self, request: Any) -> tuple[Any, bool]:
        """The counter with this member counted, None if the chord is done or not known; and if it was counted before."""
        using = router.db_for_write(ChordCounter)
        counters = ChordCounter.objects.using(using).filter(group_id=request.group)
        with transaction.atomic(using=using):
            if not counters.update(count=F("count")):
                return None, False
            counter = counters.get()
            rows = self.TaskModel._default_manager.using(self._database).filter(task_id=request.id)
            again = self._counted_in(rows.first()) == counter.pk
            if not again:
                counter.count -= 1
                counter.save(update_fields=["count"])
                self._mark(rows, counter.pk)
        return counter, again

    def _values_of(self, group: Any) -> Callable[[], list[Any]]:
        """What gives the members' values or raises the error of one: read before the transaction that needs them."""
        try:
            found = chords.joined(self, group)
        except Exception as exc:
            if self.exception_safe_to_retry(exc.__cause__ or exc):
                raise BackendStoreError(f"the members of chord {group.id} cannot be read: {exc}") from exc
            return partial(_raise, exc)
        return lambda: found

    def _complete(self, request: Any, group: Any, values: Callable[[], list[Any]], tries: _Tries) -> None:
        """Call the body and forget the counter, which nobody else can in the meantime; do nothing if it is gone."""
        using = router.db_for_write(ChordCounter)
        counters = ChordCounter.objects.using(using).filter(group_id=request.group)
        with transaction.atomic(using=using):
            if not counters.update(count=F("count")):
                return
            if not tries.again() or not chords.is_called(self, request):
                chords.call_body(self, request, values, lambda: group.results)
            counters.delete()

    def _counted_in(self, row: Any) -> Any:
        """The counter that has counted a task, by what its row says."""
        meta = self._meta_of(row)
        return meta.get(COUNTED) if meta is not None else None

    def _mark(self, rows: Any, counter: Any) -> None:
        """Have a task's row say that it was counted."""
        meta = self._meta_of(rows.first())
        if meta is not None:
            _, _, text = self.encode_content({**meta, COUNTED: counter})
            rows.update(meta=text)

    def _meta_of(self, row: Any) -> dict[str, Any] | None:
        """The ``meta`` of a row that is written as ours are; None for any other and if there is none."""
        if row is None or row.content_type != self.content_type:
            return None
        try:
            found = self.decode_content(row, row.meta) or {}
        except (WireError, ValueError):
            return None
        return found if isinstance(found, dict) else None


class _Tries:
    """Whether something may have been tried before: it was said so, or this was asked before."""

    def __init__(self, before: bool) -> None:
        self._before = before

    def again(self) -> bool:
        """True from the second time on."""
        found, self._before = self._before, True
        return found


def _raise(exc: BaseException) -> NoReturn:
    raise exc
