"""What a caller holds of a task it has sent or run."""

from __future__ import annotations

from typing import Any

from pyqs_celery import _state, states

__all__ = ("AsyncResult", "EagerResult")


class AsyncResult:
    """A task's id and, where results are kept, its state and value.

    ``id`` is always good; asking for the state or value without a result back end raises NotImplementedError.
    https://docs.celeryq.dev/en/stable/reference/celery.result.html
    """

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

    @property
    def backend(self) -> Any:
        """Where the result is kept."""
        return self._backend or self.app.backend

    @property
    def task_id(self) -> str:
        """The same as ``id``."""
        return self.id

    @property
    def state(self) -> Any:
        """The task's state."""
        return self.backend.get_state(self.id)

    status = state

    def ready(self) -> bool:
        """True once the task has ended."""
        return self.state in states.READY_STATES

    def successful(self) -> bool:
        """True if it returned."""
        return bool(self.state == states.SUCCESS)

    def failed(self) -> bool:
        """True if it raised."""
        return bool(self.state == states.FAILURE)

    @property
    def result(self) -> Any:
        """The value, or the exception."""
        return self.backend.get_result(self.id)

    info = result

    @property
    def traceback(self) -> Any:
        """The traceback of a failure, as text."""
        return self.backend.get_traceback(self.id)

    def get(self, timeout: Any = None, propagate: bool = True, **kwargs: Any) -> Any:
        """The task's value, waited for ``timeout`` seconds at most; raises the exception of a failure if ``propagate``.

        Raises Celery's TimeoutError, and RuntimeError inside a running task, where waiting would hold a slot.
        """
        running = _state.get_current_task()
        inside = running is not None and not running.request.called_directly and not running.request.is_eager
        if inside and kwargs.get("disable_sync_subtasks", True):
            raise RuntimeError(
                "Never call result.get() within a task! See the user guide on avoiding synchronous subtasks"
            )
        return self.backend.wait_for(self.id, timeout=timeout, propagate=propagate)

    wait = get

    def forget(self) -> None:
        """Drop what is stored of it."""
        self.backend.forget(self.id)

    def revoke(self, *args: Any, **kwargs: Any) -> Any:
        """Raises ControlUnavailable: SQS has no broadcast, and this release keeps no marks of revoked tasks."""
        return self.app.control.revoke(self.id, *args, **kwargs)

    def as_tuple(self) -> tuple[Any, Any]:
        """The result's id, and its parent's, as Celery writes them into messages."""
        parent = self.parent
        return (self.id, parent and parent.as_tuple()), None

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.id}>"

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AsyncResult):
            return other.id == self.id
        return other == self.id if isinstance(other, str) else NotImplemented

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
        self._result = ret_value
        self._state = state
        self._traceback = traceback

    @property
    def state(self) -> Any:
        """The state it ended in."""
        return self._state

    status = state

    @property
    def result(self) -> Any:
        """The value, or the exception."""
        return self._result

    info = result

    @property
    def traceback(self) -> str | None:
        """The traceback of a failure, as text."""
        return self._traceback

    def ready(self) -> bool:
        """Always True."""
        return True

    def successful(self) -> bool:
        """True if it returned."""
        return bool(self._state == states.SUCCESS)

    def failed(self) -> bool:
        """True if it raised."""
        return bool(self._state == states.FAILURE)

    def get(
        self, timeout: Any = None, propagate: bool = True, disable_sync_subtasks: bool = True, **kwargs: Any
    ) -> Any:
        """The value; raises the exception of a failure if ``propagate``."""
        if self.successful():
            return self._result
        if self._state in states.PROPAGATE_STATES and propagate:
            raise self._result if isinstance(self._result, BaseException) else Exception(self._result)
        return self._result

    def forget(self) -> None:
        """Nothing to forget."""

    def __repr__(self) -> str:
        return f"<EagerResult: {self.id}>"
