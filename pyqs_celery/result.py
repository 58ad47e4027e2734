"""What a caller holds of tasks it has sent or run: their ids, states, values and children.

https://docs.celeryq.dev/en/stable/reference/celery.result.html
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cached_property
from typing import Any

from pyqs_celery import _state, states
from pyqs_celery.exceptions import IncompleteStream, TaskRevokedError
from pyqs_celery.exceptions import TimeoutError as ResultTimeout
from pyqs_celery.result_base import ResultBase, allow_join_result, assert_will_not_block, denied_join_result
from pyqs_celery.result_sets import GroupResult, ResultSet
from pyqs_celery.utils.graph import DependencyGraph, GraphFormatter
from pyqs_celery.utils.times import parse_iso

__all__ = (
    "AsyncResult",
    "EagerResult",
    "GroupResult",
    "ResultBase",
    "ResultSet",
    "allow_join_result",
    "assert_will_not_block",
    "denied_join_result",
    "result_from_tuple",
)


def _of_document(key: str, what: str) -> Any:
    def read(self: AsyncResult) -> Any:
        return self._get_task_meta().get(key)

    return property(read, doc=what)


class AsyncResult(ResultBase):
    """A task's id and, where results are kept, its state and value.

    ``id`` is always good; asking for the state or value without a result back end raises NotImplementedError. An id that
    nobody has heard of is PENDING. ``ignored`` is True for the result of an eager call that was told to keep none.
    """

    TimeoutError = ResultTimeout
    ignored = False

    def __class_getitem__(cls, item: Any) -> type[AsyncResult]:
        """``AsyncResult[R]`` in annotations."""
        return cls

    def __init__(
        self,
        id: str,  # noqa: A002 - Celery's name
        backend: Any = None,
        task_name: str | None = None,
        app: Any = None,
        parent: Any = None,
    ) -> None:
        if id is None:
            raise ValueError(f"AsyncResult requires valid id, not {type(id)}")
        self.id = id
        self.app = app or _state.get_current_app()
        self.task_name = task_name
        self.parent = parent
        self._backend = backend
        self._cache: dict[str, Any] | None = None

    @property
    def backend(self) -> Any:
        """Where the result is kept."""
        return self._backend or self.app.backend

    @backend.setter
    def backend(self, value: Any) -> None:
        self._backend = value

    @property
    def task_id(self) -> str:
        """The same as ``id``."""
        return self.id

    @task_id.setter
    def task_id(self, value: str) -> None:
        self.id = value

    # -- the document ------------------------------------------------------------------------------

    def _get_task_meta(self) -> dict[str, Any]:
        return self._cache if self._cache is not None else self._maybe_set_cache(self.backend.get_task_meta(self.id))

    def _maybe_set_cache(self, meta: dict[str, Any]) -> dict[str, Any]:
        """Remember the document of a task that has ended, and tell those who asked by ``then``."""
        if not meta or meta["status"] not in states.READY_STATES:
            return meta
        children = [result_from_tuple(child, self.app) for child in meta.get("children") or ()]
        self._cache = {**meta, "children": children} if children else meta
        if not self.on_ready.ready:
            self.on_ready(self)
        return self._cache

    state = status = property(lambda self: self._get_task_meta()["status"], doc="The task's state.")
    result = info = _of_document("result", "The value, or the exception.")
    traceback = _of_document("traceback", "The traceback of a failure, as text.")
    children = _of_document("children", "Results of the tasks that this one has sent; None where that is not known.")
    name = _of_document("name", "The task's name (``result_extended``).")
    args = _of_document("args", "Its arguments (``result_extended``).")
    kwargs = _of_document("kwargs", "Its keyword arguments (``result_extended``).")
    worker = _of_document("worker", "The worker that ran it (``result_extended``).")
    retries = _of_document("retries", "How often it was retried (``result_extended``).")
    queue = _of_document("queue", "The queue it came from (``result_extended``).")

    @property
    def date_done(self) -> datetime | None:
        """When it ended, aware."""
        found = self._get_task_meta().get("date_done")
        return parse_iso(found) if isinstance(found, str) else found

    def ready(self) -> bool:
        """True once the task has ended: SUCCESS, FAILURE or REVOKED."""
        return self.state in states.READY_STATES

    def successful(self) -> bool:
        """True if it returned."""
        return bool(self.state == states.SUCCESS)

    def failed(self) -> bool:
        """True if it raised."""
        return bool(self.state == states.FAILURE)

    def exists(self) -> bool:
        """True if anything is stored of the task."""
        return bool(self.backend.task_result_exists(self.id))

    # -- waiting -----------------------------------------------------------------------------------

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        no_ack: bool = True,
        follow_parents: bool = True,
        callback: Callable[[str, Any], Any] | None = None,
        on_message: Any = None,
        on_interval: Callable[[], Any] | None = None,
        disable_sync_subtasks: bool = True,
        **kwargs: Any,
    ) -> Any:
        """The task's value, waited for ``timeout`` seconds at most (None: for ever).

        Raises the exception of a failure if ``propagate``, also that of an earlier step of its chain
        (``follow_parents``); Celery's TimeoutError; and RuntimeError inside a running task, where waiting would hold a
        slot (``disable_sync_subtasks``). ``on_interval`` is called while it waits, ``callback(id, value)`` at the end.
        """
        if self.ignored:
            return None
        if disable_sync_subtasks:
            assert_will_not_block()
        watch = follow_parents and propagate and self.parent is not None
        if watch:
            self._maybe_reraise_parent_error()
        if self._cache is not None:
            return self.maybe_throw(propagate=propagate, callback=callback)

        def look() -> None:
            if watch:
                self._maybe_reraise_parent_error()
            if on_interval is not None:
                on_interval()

        return self.backend.wait_for_pending(
            self,
            timeout=timeout,
            interval=interval,
            on_interval=look,
            no_ack=no_ack,
            propagate=propagate,
            callback=callback,
            on_message=on_message,
        )

    wait = get

    def _maybe_reraise_parent_error(self) -> None:
        parents, node = [], self.parent
        while node is not None:
            parents.append(node)
            node = node.parent
        for each in reversed(parents):
            each.maybe_throw()

    def maybe_throw(self, propagate: bool = True, callback: Callable[[str, Any], Any] | None = None) -> Any:
        """The value as it stands now; raises the exception of a failure if ``propagate``."""
        meta = self._get_task_meta()
        value = meta.get("result")
        if meta["status"] in states.PROPAGATE_STATES and propagate:
            raise self._to_raise(value, meta.get("traceback"))
        if callback is not None:
            callback(self.id, value)
        return value

    maybe_reraise = maybe_throw

    def _to_raise(self, value: Any, traceback: Any) -> BaseException:
        error = value if isinstance(value, BaseException) else Exception(value)
        if traceback and self.app.conf.task_remote_tracebacks:
            try:
                import tblib  # type: ignore[import-not-found, unused-ignore]
            except ImportError:
                return error
            error = error.with_traceback(tblib.Traceback.from_string(traceback).as_traceback())
        return error

    def throw(self, *args: Any, **kwargs: Any) -> None:
        """Hand an exception to those who asked by ``then``."""
        self.on_ready.throw(*args, **kwargs)

    @cached_property
    def on_ready(self) -> Any:
        """A promise of vine's that is kept when the task is known to have ended."""
        from vine import promise

        return promise()

    def then(self, callback: Callable[..., Any], on_error: Any = None, weak: bool = False) -> Any:
        """Call ``callback(result)`` when somebody who waits for this object, or reads it, finds that the task has ended."""
        return self.on_ready.then(callback, on_error)

    # -- its family --------------------------------------------------------------------------------

    def iterdeps(self, intermediate: bool = False) -> Iterator[tuple[Any, Any]]:
        """(parent, result) of this result and all that came of it, breadth first.

        Raises IncompleteStream at one that has not ended, unless ``intermediate``.
        """
        left: deque[tuple[Any, Any]] = deque([(None, self)])
        while left:
            parent, node = left.popleft()
            yield parent, node
            if node.ready():
                left.extend((node, child) for child in node.children or ())
            elif not intermediate:
                raise IncompleteStream

    def collect(self, intermediate: bool = False, **kwargs: Any) -> Iterator[tuple[Any, Any]]:
        """(result, value) of this result and all that came of it, each waited for; ``kwargs`` go to ``get``."""
        for _, node in self.iterdeps(intermediate=intermediate):
            yield node, node.get(**kwargs)

    def get_leaf(self) -> Any:
        """The value of the last of all that came of it."""
        value = None
        for _, node in self.iterdeps():
            value = node.get()
        return value

    def build_graph(self, intermediate: bool = False, formatter: Any = None) -> DependencyGraph:
        """All that came of it as a graph."""
        graph = DependencyGraph(formatter=formatter or GraphFormatter(root=self.id, shape="oval"))
        for parent, node in self.iterdeps(intermediate=intermediate):
            graph.add_arc(node)
            if parent is not None:
                graph.add_edge(parent, node)
        return graph

    @property
    def graph(self) -> DependencyGraph:
        """The same. Raises IncompleteStream while some of it has not ended."""
        return self.build_graph()

    def as_tuple(self) -> tuple[Any, Any]:
        """The result's id, and its parent's, as Celery writes them into messages."""
        return (self.id, self.parent.as_tuple() if self.parent is not None else None), None

    def as_list(self) -> list[str]:
        """Its id and those of the steps before it."""
        return [self.id, *(self.parent.as_list() if self.parent is not None else ())]

    # -- ending ------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Drop what is stored of it and of the steps before it."""
        self._cache = None
        if self.parent is not None:
            self.parent.forget()
        self.backend.forget(self.id)

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """Have workers not run the task, and with ``terminate`` stop it with ``signal`` (SIGTERM) if it runs.

        Workers learn of it by the result store; raises ControlUnavailable without one.
        """
        return self.app.control.revoke(
            self.id, connection=connection, terminate=terminate, signal=signal, reply=wait, timeout=timeout
        )

    def revoke_by_stamped_headers(self, headers: Any, *args: Any, **kwargs: Any) -> Any:
        """Raises ControlUnavailable: a mark is kept by task id, and nothing lists the tasks that carry a stamp."""
        return self.app.control.revoke_by_stamped_headers(headers, *args, **kwargs)

    @property
    def supports_native_join(self) -> bool:
        """True if several results are read at once."""
        return bool(self.backend.supports_native_join)

    def __str__(self) -> str:
        return str(self.id)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.id}>"

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AsyncResult):
            return other.id == self.id
        return other == self.id if isinstance(other, str) else NotImplemented

    def __copy__(self) -> AsyncResult:
        return type(self)(self.id, self._backend, None, self.app, self.parent)

    def __reduce__(self) -> Any:
        return type(self), (self.id, None, self.task_name, None, self.parent)


class EagerResult(AsyncResult):
    """The result of a task that was run here."""

    def __init__(
        self,
        id: str,  # noqa: A002 - Celery's name
        ret_value: Any,
        state: str,
        traceback: str | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(id, task_name=name)
        self._cache = {
            "task_id": id,
            "result": ret_value,
            "status": state,
            "traceback": traceback,
            "name": name,
            "children": None,
        }
        self.on_ready(self)

    def ready(self) -> bool:
        """Always True."""
        return True

    def get(  # type: ignore[override]  # there is nothing to wait for
        self, timeout: float | None = None, propagate: bool = True, disable_sync_subtasks: bool = True, **kwargs: Any
    ) -> Any:
        """The value; raises the exception of a failure if ``propagate``. None for a task that was ignored or rejected."""
        if self.state in states.PROPAGATE_STATES and propagate:
            raise self.result if isinstance(self.result, BaseException) else Exception(self.result)
        return self.result if self.state in (states.SUCCESS, *states.PROPAGATE_STATES) else None

    wait = get  # type: ignore[assignment]

    def forget(self) -> None:
        """Nothing to forget."""

    def revoke(self, *args: Any, **kwargs: Any) -> None:
        """It is REVOKED from now on."""
        assert self._cache is not None
        self._cache |= {"status": states.REVOKED, "result": TaskRevokedError("revoked"), "traceback": None}

    @property
    def supports_native_join(self) -> bool:
        """It is read one by one."""
        return False

    def __copy__(self) -> EagerResult:
        made, arguments = self.__reduce__()
        found: EagerResult = made(*arguments)
        return found

    def __reduce__(self) -> Any:
        return type(self), (self.id, self.result, self.state, self.traceback, self.name)


def result_from_tuple(r: Any, app: Any = None) -> Any:
    """A result or group from its tuple; a result is given back as it is. Raises ValueError or TypeError for neither."""
    if isinstance(r, ResultBase):
        return r
    app = app or _state.get_current_app()
    own, members = r
    task_id, parent = own if isinstance(own, (list, tuple)) else (own, None)
    if parent:
        parent = result_from_tuple(parent, app)
    if members is not None:
        return app.GroupResult(task_id, [result_from_tuple(each, app) for each in members], parent=parent or None)
    return app.AsyncResult(task_id, parent=parent or None)
