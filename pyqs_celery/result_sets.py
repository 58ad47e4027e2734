"""Several results asked together, and those of a group. They are named ``celery.result``'s, where everybody finds them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pyqs_celery import _state, states
from pyqs_celery.exceptions import ImproperlyConfigured
from pyqs_celery.result_base import ResultBase, assert_will_not_block

HOME = "pyqs_celery.result"
"""Where pickles of the classes look for them."""


class ResultSet(ResultBase):
    """Several results, asked together."""

    __module__ = HOME

    def __init__(
        self, results: Iterable[Any] | None, app: Any = None, ready_barrier: Any = None, **kwargs: Any
    ) -> None:
        self.results: list[Any] = results if isinstance(results, list) else list(results or ())
        self._app = app

    @property
    def app(self) -> Any:
        """The application of its members."""
        if self._app is None:
            self._app = self.results[0].app if self.results else _state.get_current_app()
        return self._app

    @app.setter
    def app(self, value: Any) -> None:
        self._app = value

    @property
    def backend(self) -> Any:
        """Where the results are kept."""
        return self.app.backend

    # -- its members -------------------------------------------------------------------------------

    def add(self, result: Any) -> None:
        """Add a result that is not in it yet."""
        if result not in self.results:
            self.results.append(result)

    def update(self, results: Iterable[Any]) -> None:
        """Add several."""
        for result in results:
            self.add(result)

    def remove(self, result: Any) -> None:
        """Take a result out, by itself or its id. Raises KeyError if it is not in it."""
        try:
            self.results.remove(self.app.AsyncResult(result) if isinstance(result, str) else result)
        except ValueError:
            raise KeyError(result) from None

    def discard(self, result: Any) -> None:
        """Take a result out if it is in it."""
        if result in self.results:
            self.remove(result)

    def clear(self) -> None:
        """Take all out."""
        self.results[:] = []

    # -- their states ------------------------------------------------------------------------------

    def successful(self) -> bool:
        """True if all have returned."""
        return all(result.successful() for result in self.results)

    def failed(self) -> bool:
        """True if one has raised."""
        return any(result.failed() for result in self.results)

    def waiting(self) -> bool:
        """True while one has not ended."""
        return not self.ready()

    def ready(self) -> bool:
        """True once all have ended."""
        return all(result.ready() for result in self.results)

    def completed_count(self) -> int:
        """How many have returned."""
        return sum(1 for result in self.results if result.successful())

    def maybe_throw(self, callback: Any = None, propagate: bool = True) -> None:
        """Raise the first exception of a member that failed."""
        for result in self.results:
            result.maybe_throw(callback=callback, propagate=propagate)

    maybe_reraise = maybe_throw

    # -- waiting -----------------------------------------------------------------------------------

    @property
    def supports_native_join(self) -> bool:
        """True if its members are read together."""
        return bool(self.results and self.results[0].supports_native_join)

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callable[[str, Any], Any] | None = None,
        no_ack: bool = True,
        on_message: Any = None,
        disable_sync_subtasks: bool = True,
        on_interval: Callable[[], Any] | None = None,
    ) -> Any:
        """The members' values in their order, as ``join`` or ``join_native``, whichever the store is better at."""
        join = self.join_native if self.supports_native_join else self.join
        return join(
            timeout=timeout,
            propagate=propagate,
            interval=interval,
            callback=callback,
            no_ack=no_ack,
            on_message=on_message,
            disable_sync_subtasks=disable_sync_subtasks,
            on_interval=on_interval,
        )

    def join(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callable[[str, Any], Any] | None = None,
        no_ack: bool = True,
        on_message: Any = None,
        disable_sync_subtasks: bool = True,
        on_interval: Callable[[], Any] | None = None,
    ) -> list[Any]:
        """Wait for one member after another. With ``callback(id, value)`` the list that is given back is empty.

        Raises the exception of a member that failed if ``propagate``, and Celery's TimeoutError.
        """
        if disable_sync_subtasks:
            assert_will_not_block()
        if on_message is not None:
            raise ImproperlyConfigured("Backend does not support on_message callback")
        until = None if timeout is None else time.monotonic() + timeout
        values = []
        for result in self.results:
            value = result.get(
                timeout=None if until is None else max(0.0, until - time.monotonic()),
                propagate=propagate,
                interval=interval,
                no_ack=no_ack,
                on_interval=on_interval,
                disable_sync_subtasks=disable_sync_subtasks,
            )
            if callback is None:
                values.append(value)
            else:
                callback(result.id, value)
        return values

    def iter_native(
        self,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: Any = None,
        on_interval: Callable[[], Any] | None = None,
    ) -> Iterator[tuple[str, Any]]:
        """(id, document) of members as they end; (id, results) of one that is a group."""
        found: Iterator[tuple[str, Any]] = self.backend.iter_native(
            self, timeout=timeout, interval=interval, no_ack=no_ack, on_message=on_message, on_interval=on_interval
        )
        return found

    def iterate(self, timeout: float | None = None, propagate: bool = True, interval: float = 0.5) -> Iterator[Any]:
        """The members' values as they end, in that order."""
        assert_will_not_block()
        until = None if timeout is None else time.monotonic() + timeout
        for _, meta in self.iter_native(timeout, interval):
            yield self._value_of(meta, propagate, disable_sync_subtasks=True, until=until)

    def join_native(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callable[[str, Any], Any] | None = None,
        no_ack: bool = True,
        on_message: Any = None,
        on_interval: Callable[[], Any] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> list[Any] | None:
        """As ``join``, all members at once: ``callback`` is called as they end."""
        if disable_sync_subtasks:
            assert_will_not_block()
        values: dict[str, Any] = {}
        until = None if timeout is None else time.monotonic() + timeout
        for task_id, meta in self.iter_native(timeout, interval, no_ack, on_message, on_interval):
            value = self._value_of(meta, propagate, disable_sync_subtasks, until)
            if callback is not None:
                callback(task_id, value)
            else:
                values[task_id] = value
        return None if callback is not None else [values.get(result.id) for result in self.results]

    def _value_of(self, meta: Any, propagate: bool, disable_sync_subtasks: bool, until: float | None) -> Any:
        if isinstance(meta, list):  # a member that is a group
            how = {"propagate": propagate, "disable_sync_subtasks": disable_sync_subtasks}
            left = (None if until is None else max(0.0, until - time.monotonic()) for _ in meta)
            return [each.get(timeout=seconds, **how) for each, seconds in zip(meta, left, strict=True)]
        if propagate and meta["status"] in states.PROPAGATE_STATES:
            raise meta["result"]
        return meta.get("result")

    def then(self, callback: Callable[..., Any], on_error: Any = None, weak: bool = False) -> Any:
        """Call ``callback(self)`` when all members are known to have ended."""
        from vine import promise

        done = promise(callback, (self,), on_error=on_error)
        left = {id(result) for result in self.results}

        def ended(result: Any) -> None:
            left.discard(id(result))
            if not left and not done.ready:
                done()

        for result in self.results:
            result.then(ended)
        if not self.results:
            done()
        return done

    # -- ending ------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Drop what is stored of all members."""
        for result in self.results:
            result.forget()

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """``AsyncResult.revoke`` of all members."""
        ids = [each.id for each in self.results]
        return self.app.control.revoke(
            ids, connection=connection, terminate=terminate, signal=signal, reply=wait, timeout=timeout
        )

    def __iter__(self) -> Iterator[Any]:
        return iter(self.results)

    def __getitem__(self, index: Any) -> Any:
        return self.results[index]

    def __len__(self) -> int:
        return len(self.results)

    def __eq__(self, other: object) -> bool:
        return other.results == self.results if isinstance(other, ResultSet) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # its members may change

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: [{', '.join(str(result.id) for result in self.results)}]>"


class GroupResult(ResultSet):
    """The results of a group; ``save()`` and ``restore(id)`` keep it in the store."""

    __module__ = HOME

    def __init__(self, id: Any = None, results: Any = None, parent: Any = None, **kwargs: Any) -> None:  # noqa: A002
        self.id = id
        self.parent = parent
        super().__init__(results, **kwargs)

    def save(self, backend: Any = None) -> Any:
        """Keep the ids of its members in the result store."""
        return (backend or self.app.backend).save_group(self.id, self)

    def delete(self, backend: Any = None) -> None:
        """Drop what ``save`` kept."""
        (backend or self.app.backend).delete_group(self.id)

    @classmethod
    def restore(cls, id: str, backend: Any = None, app: Any = None) -> Any:  # noqa: A002 - Celery's name
        """A group that was saved; None for one that is not known."""
        app = app or getattr(cls, "_bound_app", None) or _state.get_current_app()
        return (backend or app.backend).restore_group(id)

    @property
    def children(self) -> list[Any]:
        """Its members."""
        return self.results

    def as_tuple(self) -> tuple[Any, Any]:
        """Its id, its parent's tuple, and its members' tuples, as Celery writes them into messages."""
        parent = self.parent.as_tuple() if self.parent is not None else None
        return (self.id, parent), [result.as_tuple() for result in self.results]

    def as_list(self) -> list[Any]:
        """Its id and those of the steps before it."""
        return [self.id, *(self.parent.as_list() if self.parent is not None else ())]

    def __bool__(self) -> bool:
        return bool(self.id or self.results)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, GroupResult):
            return bool(other.id == self.id and other.results == self.results and other.parent == self.parent)
        return other == self.id if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(self.id)

    def __str__(self) -> str:
        return str(self.id)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.id} [{', '.join(str(result.id) for result in self.results)}]>"

    def __reduce__(self) -> Any:
        return type(self), (self.id, self.results)
