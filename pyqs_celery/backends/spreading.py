"""How a task's end spreads: into the store, to the chord it is a member of, to the steps after it, and to errbacks.

What is sent on the way is canvas; it is reached through the application, so that a store needs nothing but its app.
"""

from __future__ import annotations

import logging
import sys
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pyqs_celery import states
from pyqs_celery.exceptions import ChordError, TaskRevokedError
from pyqs_celery.utils.collections import listed
from pyqs_celery.utils.einfo import ExceptionInfo

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery

logger = logging.getLogger("celery.backends.base")


class Spreading:
    """The mixin of ``Backend`` that marks tasks as ended."""

    app: Celery
    store_result: Callable[..., Any]
    get_state: Callable[[str], Any]

    def mark_as_started(self, task_id: str, **meta: Any) -> Any:
        """The task runs; ``meta`` says where (pid, hostname)."""
        return self.store_result(task_id, meta, states.STARTED)

    def mark_as_done(
        self, task_id: str, result: Any, request: Any = None, store_result: bool = True, state: str = states.SUCCESS
    ) -> None:
        """The task has returned."""
        if store_result:
            self.store_result(task_id, result, state, request=request)
        if request is not None and request.chord:
            self.on_chord_part_return(request, state, result)

    def mark_as_failure(
        self,
        task_id: str,
        exc: BaseException,
        traceback: Any = None,
        request: Any = None,
        store_result: bool = True,
        call_errbacks: bool = True,
        state: str = states.FAILURE,
    ) -> None:
        """The task has failed for good: its chord, the steps after it and its errbacks are told."""
        if store_result:
            self.store_result(task_id, exc, state, traceback=traceback, request=request)
        if request is None:
            return
        if request.chord:
            self.on_chord_part_return(request, state, exc)
        self._fail_chain(request.get("chain"), exc, traceback, store_result=store_result, state=state)
        if call_errbacks and request.errbacks:
            self._call_task_errbacks(request, exc, traceback)

    def mark_as_revoked(
        self,
        task_id: str,
        reason: str = "",
        request: Any = None,
        store_result: bool = True,
        state: str = states.REVOKED,
    ) -> None:
        """The task was not run, since it was revoked or has expired; its chord and the steps after it are told."""
        exc = TaskRevokedError(reason)
        if store_result:
            self.store_result(task_id, exc, state, request=request)
        if request is None:
            return
        if request.chord:
            self.on_chord_part_return(request, state, exc)
        self._fail_chain(request.get("chain"), exc, store_result=store_result, state=state)

    def mark_as_retry(
        self,
        task_id: str,
        exc: BaseException,
        traceback: Any = None,
        request: Any = None,
        store_result: bool = True,
        state: str = states.RETRY,
    ) -> Any:
        """The task will run again; ``exc`` is why."""
        if store_result:
            return self.store_result(task_id, exc, state, traceback=traceback, request=request)
        return None

    def _fail_chain(
        self,
        chain: Any,
        exc: BaseException,
        traceback: Any = None,
        store_result: bool = True,
        state: str = states.FAILURE,
    ) -> None:
        """Mark the steps after a failed one, so that nobody waits for them; those in a chord count as its failed parts."""
        from pyqs_celery.app.request import Context

        left = deque(chain if isinstance(chain, (list, tuple)) else ())
        while left:
            step = left.popleft()
            if not isinstance(step, Mapping):
                continue
            options = step.get("options") or {}
            request = Context({**step, **options}, id=options.get("task_id"), group=options.get("group_id"))
            in_chord = bool(options.get("chord"))
            told_before = in_chord and request.id is not None and self.get_state(request.id) in states.PROPAGATE_STATES
            if store_result and state in states.PROPAGATE_STATES and request.id is not None:
                self.store_result(request.id, exc, state, traceback=traceback, request=request)
            if in_chord and not told_before:
                self.on_chord_part_return(request, state, exc)
            # a chord's own result is that of its body, which is what later steps and an outer chord wait for
            body = (step.get("kwargs") or {}).get("body") if step.get("subtask_type") == "chord" else None
            if body is not None:
                left.append(body)

    def _call_task_errbacks(self, request: Any, exc: BaseException, traceback: Any) -> None:
        from pyqs_celery.continuations import send_errbacks

        send_errbacks(self.app, request, exc, traceback)

    # -- chords ------------------------------------------------------------------------------------

    def ensure_chords_allowed(self) -> None:
        """Raises NotImplementedError where a chord could never call its body."""

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        """Told how many parts a chord has, before the last is sent."""

    def on_chord_part_return(self, request: Any, state: str, result: Any, **kwargs: Any) -> None:
        """A member of a chord has ended; a store that counts does so here, and calls the body after the last."""

    def add_to_chord(self, chord_id: str, result: Any) -> Any:
        """One more member for a chord that is under way."""
        raise NotImplementedError("Backend does not support add_to_chord")

    def apply_chord(self, header_result_args: tuple[Any, ...], body: Any, **kwargs: Any) -> None:
        """Called before a chord's members are sent: sends the task that will look when they have ended."""
        self.ensure_chords_allowed()
        self.fallback_chord_unlock(self.app.GroupResult(*header_result_args), body, **kwargs)

    def fallback_chord_unlock(self, header_result: Any, body: Any, countdown: float = 1, **kwargs: Any) -> None:
        """Send ``celery.chord_unlock``, to the queue of the body."""
        kwargs["result"] = [each.as_tuple() for each in header_result]
        task = self.app.tasks.get(body.get("task"))
        queue = body.options.get("queue") or getattr(task, "queue", None)
        if queue is None:
            queue = self.app.route_of(body.get("task"), (), {}, body.options)
        priority = body.options.get("priority", getattr(task, "priority", None))
        self.app.tasks["celery.chord_unlock"].apply_async(
            (header_result.id, body),
            kwargs,
            countdown=countdown,
            queue=queue,
            priority=priority or 0,
            **{key: body.options[key] for key in ("MessageGroupId", "headers") if body.options.get(key) is not None},
        )

    def chord_error_from_stack(self, callback: Any, exc: BaseException | None = None) -> ExceptionInfo | None:
        """A chord's body is not called: it is marked as failed, and its errbacks are called.

        For a body that is a group, each of its members.
        """
        error = exc if exc is not None else sys.exc_info()[1]
        assert error is not None
        task = self.app.tasks.get(callback.get("task"))
        backend = task.backend if task is not None else self
        info: ExceptionInfo | None = None
        if callback.get("subtask_type") == "group":
            self._fail_group(backend, callback, error)
        else:
            task_id = callback.options.setdefault("task_id", str(uuid.uuid4()))
            request = _stand_in(task_id, callback.get("task"), callback.options.get("link_error"), callback.options)
            try:
                self._call_task_errbacks(request, error, None)
            except Exception as errback_error:  # noqa: BLE001 - the body is failed all the same, and this is why
                error = errback_error
            info = backend.fail_from_current_stack(task_id, exc=error)
        backend._fail_chain(callback.options.get("chain"), error)
        return info

    def _fail_group(self, backend: Any, callback: Any, error: BaseException) -> None:
        from pyqs_celery.canvas.walking import result_and_errbacks

        cause = error.__cause__ if isinstance(error, ChordError) and error.__cause__ is not None else error
        frozen = callback.freeze()
        errbacks = dict(result_and_errbacks(member) for member in callback.tasks)
        own = listed(callback.options.get("link_error"))
        for member in frozen.results:
            wanted: list[Any] = []
            for errback in (*errbacks.get(member.id, ()), *own):
                if errback not in wanted:
                    wanted.append(errback)
            try:
                backend._call_task_errbacks(_stand_in(member.id, "unknown", wanted, {}), cause, None)
            except Exception:
                logger.exception("Errbacks of chord body member %s failed", member.id)
            backend.fail_from_current_stack(member.id, exc=cause)
        if frozen.id:
            backend.mark_as_failure(frozen.id, cause)

    def fail_from_current_stack(self, task_id: str, exc: BaseException | None = None) -> ExceptionInfo:
        """Mark a task as failed with an exception, the current one unless another is given."""
        info = ExceptionInfo(exc)
        self.mark_as_failure(task_id, info.exception, info.traceback)
        return info


def _stand_in(task_id: str, task: Any, errbacks: Any, options: Mapping[str, Any]) -> Any:
    """A request for errbacks of what was never run."""
    from pyqs_celery.app.request import Context

    return Context(
        id=task_id,
        task=task,
        errbacks=listed(errbacks),
        root_id=options.get("root_id"),
        parent_id=options.get("parent_id"),
        delivery_info={},
    )


def chord_error(message: str, cause: BaseException | None = None) -> ChordError:
    """A ChordError with its cause."""
    error = ChordError(message)
    if isinstance(cause, Exception):
        error.__cause__ = cause
    return error


def culprit(members: Iterable[Any]) -> Any:
    """The first member of a chord, or of a group in it, that did not return a value; None if all did."""
    for each in members:
        inner = getattr(each, "results", None)
        found = culprit(inner) if inner is not None else each if each.state in states.PROPAGATE_STATES else None
        if found is not None:
            return found
    return None
