"""Run one task and say what came of it: the same steps in a worker's child, in eager mode (``app/eager.py``) and in tests.

Order, as Celery's: request in place, ``before_start``, ``task_prerun``, the task, then for a success callbacks and
the next chain step, the result, ``on_success``, ``task_success``; for a failure the result, ``on_failure``,
``task_failure``, errbacks; then ``after_return`` and ``task_postrun``.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyqs_celery import _state, continuations, revocation, signals, states
from pyqs_celery.app.request import Context, from_message
from pyqs_celery.app.retrying import earlier_tries, is_exhausted, is_native
from pyqs_celery.app.task import call_in_worker
from pyqs_celery.app.trace import tracer_of
from pyqs_celery.backends.disabled import DisabledBackend
from pyqs_celery.exceptions import (
    BackendError,
    Ignore,
    InvalidRequest,
    MessageTooLarge,
    OperationalError,
    Reject,
    ResultTooLarge,
    Retry,
    SoftTimeLimitExceeded,
    Terminated,
)
from pyqs_celery.outcome import Outcome
from pyqs_celery.utils.einfo import ExceptionInfo
from pyqs_celery.utils.serialization import get_pickleable_exception
from pyqs_celery.utils.text import one_line, saferepr
from pyqs_celery.wire.message import TaskMessage

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery
    from pyqs_celery.app.task import Task

logger = logging.getLogger("celery.app.trace")


NEVER_WRITTEN = (ResultTooLarge, MessageTooLarge, InvalidRequest)
"""Errors of stores and queues that trying again does not mend."""


@dataclass(slots=True)
class Ended:
    """How a run ended: its state, its value or exception, and the exception's details."""

    state: str
    value: Any = None
    einfo: ExceptionInfo | None = None


def execute(
    app: Celery,
    message: TaskMessage,
    *,
    sqs: Mapping[str, Any],
    hostname: str,
    last_delivery: bool,
    last_timeout: bool | None = None,
    time_limit: AbstractContextManager[Any] | None = None,
) -> Outcome:
    """Run the task that a message asks for. Never raises but for SystemExit and KeyboardInterrupt.

    ``sqs`` holds SQS's facts of the delivery (``request.sqs``), ``last_delivery`` says that a failure is final, so
    that errbacks fire once, ``last_timeout`` the same of a soft time limit (None: no other). ``time_limit`` is entered
    around the task's own code alone, and may raise SoftTimeLimitExceeded there.
    """
    task = app.tasks.get(message.task)
    if task is None:
        return Outcome("unknown", message.task, message.id, f"no task {one_line(message.task)!r} is registered here")
    unsupported = continuations.unsupported(app, message)
    if unsupported:
        return Outcome("unsupported", task.name, message.id, unsupported)
    request = from_message(message, sqs=sqs, hostname=hostname)
    if is_native(task, app.conf, sqs):
        request.retries = (message.retries or 0) + earlier_tries(sqs)
    request._last_delivery, request._time_limit = last_delivery, time_limit
    request._last_timeout = last_delivery if last_timeout is None else last_timeout
    started = time.monotonic()
    try:
        if revocation.mark_of(app, request.id) is not None:
            return _revoked(task, request, "revoked")
        if _has_succeeded(app, task, request):
            return Outcome("succeeded", task.name, request.id)
        tracer = tracer_of(app, task, hostname)
        ended = tracer(request.id, message.args, message.kwargs, vars(request))
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as exc:  # noqa: BLE001 - whatever it was, the message must be given a fate
        return _internal_error(task, request, exc, time.monotonic() - started)
    return _outcome(task, request, ended, time.monotonic() - started)


def record_failure(
    app: Celery, message: TaskMessage, *, sqs: Mapping[str, Any], hostname: str, exc: Exception
) -> Outcome:
    """Tell of a task that was ended from outside, as if it had raised ``exc``: its store, chord, chain and errbacks.

    The task is not run. ``Terminated`` counts as revoked. Never raises but for SystemExit and KeyboardInterrupt.
    """
    task = app.tasks.get(message.task)
    if task is None:
        return Outcome("unknown", message.task, message.id, f"no task {one_line(message.task)!r} is registered here")
    request = from_message(message, sqs=sqs, hostname=hostname)
    started = time.monotonic()
    run = Run(app, task, request)
    token = run.enter(message.args, message.kwargs)
    try:
        if isinstance(exc, Terminated):
            return _revoked(task, request, "terminated")
        run.spread_failure(exc, ExceptionInfo(exc))
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001 - as for a run: the message must be given a fate
        return _internal_error(task, request, error, time.monotonic() - started)
    finally:
        run.leave(token)
    return Outcome("failed", task.name, request.id, one_line(_repr(exc)), exception=type(exc).__name__)


def record_expiry(app: Celery, message: TaskMessage, *, sqs: Mapping[str, Any], hostname: str) -> Outcome:
    """Tell of a task that has expired: REVOKED in its store, for its chord and its chain. Never raises."""
    task = app.tasks.get(message.task)
    if task is None:
        return Outcome("expired", message.task, message.id)
    request = from_message(message, sqs=sqs, hostname=hostname)
    try:
        _revoked(task, request, "expired")
    except Exception as error:  # noqa: BLE001 - as for a run: the message must be given a fate
        return _internal_error(task, request, error, 0.0)
    return Outcome("expired", task.name, request.id)


def _revoked(task: Task, request: Context, reason: str) -> Outcome:
    task.backend.mark_as_revoked(request.id, reason, request, store_result=not ignores_result(task, request))
    return Outcome("revoked", task.name, request.id, reason)


def _has_succeeded(app: Celery, task: Task, request: Context) -> bool:
    """True if an earlier delivery of this message succeeded, where ``worker_deduplicate_successful_tasks`` asks for that.

    Its callbacks were sent before its result was stored; its part of a chord, which comes after that, is told again.
    """
    if not app.conf.worker_deduplicate_successful_tasks or not request.delivery_info.get("redelivered"):
        return False
    meta = task.backend.get_task_meta(request.id, cache=False) if type(task.backend) is not DisabledBackend else {}
    if meta.get("status") != states.SUCCESS:
        return False
    logger.info("Task %s[%s] ignored: it has succeeded already", task.name, request.id)
    if request.chord:
        task.backend.on_chord_part_return(request, states.SUCCESS, meta.get("result"))
    return True


def ignores_result(task: Task, request: Context) -> bool:
    """True if what comes of a run is not kept: the call says so, or if it says nothing the task."""
    return bool(task.ignore_result if request.ignore_result is None else request.ignore_result)


def _outcome(task: Task, request: Context, ended: Ended, runtime: float) -> Outcome:
    exc = ended.value
    told: dict[str, Any] = {"runtime_seconds": runtime}
    if ended.state == states.SUCCESS:
        return Outcome("succeeded", task.name, request.id, **told)
    if ended.state == states.RETRY:
        delay = getattr(exc, "native_delay", None)
        return Outcome("retried", task.name, request.id, one_line(exc), native_delay=delay, **told)
    if ended.state == states.IGNORED:
        return Outcome("ignored", task.name, request.id, **told)
    if ended.state == states.REJECTED:
        return Outcome("rejected", task.name, request.id, one_line(exc.reason), requeue=bool(exc.requeue), **told)
    return Outcome(
        "failed",
        task.name,
        request.id,
        one_line(_repr(exc)),
        exception=type(exc).__name__,
        exhausted=is_exhausted(exc),
        timed_out=isinstance(exc, SoftTimeLimitExceeded),
        **told,
    )


def _internal_error(task: Task, request: Context, exc: BaseException, runtime: float) -> Outcome:
    """Something around the task failed: a back end, a continuation that could not be sent. The message stays."""
    einfo = ExceptionInfo(exc)
    logger.critical("Task %s[%s] INTERNAL ERROR: %s", task.name, request.id, one_line(_repr(exc)), exc_info=exc)
    signals.task_internal_error.send(
        sender=task,
        task_id=request.id,
        args=request.args,
        kwargs=request.kwargs,
        request=request,
        exception=exc,
        traceback=einfo.tb,
        einfo=einfo,
    )
    return Outcome(
        "rejected" if isinstance(exc, (OperationalError, BackendError)) else "failed",
        task.name,
        request.id,
        one_line(_repr(exc)),
        exception=type(exc).__name__,
        requeue=True,
        runtime_seconds=runtime,
    )


class Run:
    """One run of one task with one request."""

    def __init__(
        self,
        app: Celery,
        task: Task,
        request: Context,
        *,
        throw: bool = False,
    ) -> None:
        self.app = app
        self.task = task
        self.request = request
        self.throw = throw
        self.last_delivery = bool(request.get("_last_delivery", True))
        self.last_timeout = bool(request.get("_last_timeout", True))
        limit: AbstractContextManager[Any] | None = request.get("_time_limit")
        self.time_limit = limit or nullcontext()

    def perform(self, args: Any, kwargs: Any) -> Ended:
        """All steps. Raises only what is not the task's own failure."""
        started = time.monotonic()
        task, request = self.task, self.request
        token = self.enter(args, kwargs)
        try:
            ended = self._call(args, kwargs)
            runtime = time.monotonic() - started
            try:
                ended = self._finish(ended, runtime)
                if ended.state in (states.SUCCESS, states.FAILURE):
                    task.after_return(ended.state, ended.value, request.id, args, kwargs, ended.einfo)
            finally:
                signals.task_postrun.send(
                    sender=task,
                    task_id=request.id,
                    task=task,
                    args=args,
                    kwargs=kwargs,
                    retval=ended.value,
                    state=ended.state,
                )
                if not request.is_eager:
                    task.backend.process_cleanup()
        finally:
            self.leave(token)
        return ended

    def _finish(self, ended: Ended, runtime: float) -> Ended:
        """Tell what came of it. A success that cannot be told to those who wait for it becomes a failure."""
        if ended.state == states.SUCCESS:
            try:
                continuations.send_next(self.app, self.request, ended.value)
                self._backend.mark_as_done(self.request.id, ended.value, self.request, self._stores())
            except Exception as exc:
                if isinstance(exc, (OperationalError, BackendError)) and not isinstance(exc, NEVER_WRITTEN):
                    raise  # an outage: the message comes again
                ended = self._not_told(exc)
        _FINISH[ended.state](self, ended, runtime)
        return ended

    def _not_told(self, exc: Exception) -> Ended:
        if self.throw:
            raise exc
        return Ended(states.FAILURE, exc, ExceptionInfo(exc))

    def enter(self, args: Any, kwargs: Any) -> Any:
        """Make this the current task and request; gives what ``leave`` needs."""
        self.request.args, self.request.kwargs = args, kwargs
        token = _state.push_task(self.task)
        self.task.push_request(self.request)
        return token

    def leave(self, token: Any) -> None:
        """Undo ``enter``."""
        self.task.pop_request()
        _state.pop_task(token)

    def _call(self, args: Any, kwargs: Any) -> Ended:
        task, request = self.task, self.request
        signals.task_prerun.send(sender=task, task_id=request.id, task=task, args=args, kwargs=kwargs)
        try:
            task.before_start(request.id, args, kwargs)
            if task.track_started and not request.is_eager and self._stores():
                where = {"pid": os.getpid(), "hostname": request.hostname}
                task.backend.store_result(request.id, where, states.STARTED, request=request)
            with self.time_limit:
                value = _completed(call_in_worker(task, args, kwargs))
            return Ended(states.SUCCESS, value)
        except Reject as exc:
            return Ended(states.REJECTED, exc, ExceptionInfo(exc))
        except Ignore as exc:
            return Ended(states.IGNORED, exc, ExceptionInfo(exc))
        except Retry as exc:
            return Ended(states.RETRY, exc, ExceptionInfo(exc))
        except (SystemExit, KeyboardInterrupt) as exc:
            if isinstance(exc, KeyboardInterrupt) or self.request.is_eager:
                raise
            return Ended(states.FAILURE, exc, ExceptionInfo(exc))
        except Exception as exc:
            if self.throw:
                raise
            return Ended(states.FAILURE, exc, ExceptionInfo(exc))

    # -- how it ended ------------------------------------------------------------------------------

    def _succeeded(self, ended: Ended, runtime: float) -> None:
        task, request = self.task, self.request
        self._hook(task.on_success, ended.value, request.id, request.args, request.kwargs)
        if signals.task_success.receivers:
            signals.task_success.send(sender=task, result=ended.value, runtime=runtime)
        if logger.isEnabledFor(logging.INFO):
            shown = saferepr(ended.value, task.resultrepr_maxsize)
            self._log(logging.INFO, "Task %s[%s] succeeded in %ss: %s", runtime, one_line(shown, 2048))

    def _retried(self, ended: Ended, runtime: float) -> None:
        task, request, einfo = self.task, self.request, ended.einfo
        cause = getattr(ended.value, "exc", None) or ended.value
        if not getattr(ended.value, "is_stored", False):
            traceback = einfo.traceback if einfo is not None else None
            self._backend.mark_as_retry(request.id, cause, traceback, request, store_result=self._stores())
        self._hook(task.on_retry, cause, request.id, request.args, request.kwargs, einfo)
        signals.task_retry.send(sender=task, request=request, reason=ended.value, einfo=einfo)
        self._log(logging.INFO, "Task %s[%s] retry: %s", one_line(ended.value))

    def _failed(self, ended: Ended, runtime: float) -> None:
        task, request, exc, einfo = self.task, self.request, ended.value, ended.einfo
        assert einfo is not None
        last = self.last_timeout if isinstance(exc, SoftTimeLimitExceeded) else self.last_delivery
        if last or is_exhausted(exc):
            self.spread_failure(exc, einfo)
        elif self._stores(failure=True):
            kept = get_pickleable_exception(exc)
            self._backend.store_result(request.id, kept, states.FAILURE, traceback=einfo.traceback, request=request)
        self._hook(task.on_failure, exc, request.id, request.args, request.kwargs, einfo)
        self._send_failure(exc, einfo)
        if task.throws and isinstance(exc, task.throws):
            self._log(logging.INFO, "Task %s[%s] raised expected: %s", one_line(_repr(exc)))
        else:
            self._log(logging.ERROR, "Task %s[%s] raised unexpected: %s", one_line(_repr(exc)), exc_info=einfo.exc_info)

    def _rejected(self, ended: Ended, runtime: float) -> None:
        self._log(
            logging.WARNING,
            "Task %s[%s] reject requeue=%s: %s",
            bool(ended.value.requeue),
            one_line(ended.value.reason),
        )
        if not ended.value.requeue:  # it will not run again: whoever waits for it is told, as by Celery 5.7
            assert ended.einfo is not None
            self.spread_failure(ended.value, ended.einfo)
            self._send_failure(ended.value, ended.einfo)

    def _ignored(self, ended: Ended, runtime: float) -> None:
        self._log(logging.INFO, "Task %s[%s] ignored")

    # -- small steps -------------------------------------------------------------------------------

    def _log(self, level: int, text: str, *facts: Any, exc_info: Any = None) -> None:
        data = {
            "id": self.request.id,
            "name": self.task.name,
            "args": self.request.argsrepr or "",
            "kwargs": self.request.kwargsrepr or "",
            "hostname": self.request.hostname,
        }
        logger.log(level, text, self.task.name, self.request.id, *facts, exc_info=exc_info, extra={"data": data})

    def _send_failure(self, exc: BaseException, einfo: ExceptionInfo) -> None:
        signals.task_failure.send(
            sender=self.task,
            task_id=self.request.id,
            exception=exc,
            args=self.request.args,
            kwargs=self.request.kwargs,
            traceback=einfo.tb,
            einfo=einfo,
        )

    def spread_failure(self, exc: BaseException, einfo: ExceptionInfo) -> None:
        """The task has failed for good: its store, its chord, the steps after it and its errbacks are told."""
        self._backend.mark_as_failure(
            self.request.id,
            get_pickleable_exception(exc),
            einfo.traceback,
            request=self.request,
            store_result=self._stores(failure=True),
        )

    @property
    def _backend(self) -> Any:
        """The task's result back end; an eager run that keeps nothing does not even make it."""
        if self.request.is_eager and not self.app.conf.task_store_eager_result:
            return DisabledBackend(self.app)
        return self.task.backend

    def _stores(self, *, failure: bool = False) -> bool:
        """True if what came of this run is kept."""
        if self.request.is_eager and not self.app.conf.task_store_eager_result:
            return False
        kept = failure and bool(self.task.store_errors_even_if_ignored)
        # where a chord's values are read from its members' results, a member without one would hold it up for ever
        needed = bool(self.request.chord) and self._backend.joins_by_results
        return kept or needed or not ignores_result(self.task, self.request)

    def _hook(self, hook: Any, *args: Any) -> None:
        """Call a hook of the task; what it raises is told, and changes nothing of how the task ended."""
        try:
            hook(*args)
        except Exception:  # the task has ended; the message's fate must not depend on a hook
            logger.exception("Task %s[%s]: %s raised", self.task.name, self.request.id, hook.__name__)


_FINISH = {
    states.SUCCESS: Run._succeeded,
    states.RETRY: Run._retried,
    states.FAILURE: Run._failed,
    states.REJECTED: Run._rejected,
    states.IGNORED: Run._ignored,
}


def _completed(value: Any) -> Any:
    """Wait for the value of an ``async def`` task."""
    if not hasattr(value, "__await__"):
        return value
    from pyqs_celery.utils import aio

    return aio.run(value)


def _repr(exc: BaseException) -> str:
    try:
        return repr(exc)
    except Exception:  # noqa: BLE001 - an exception class of the user's may fail to show itself
        return f"<{type(exc).__name__}, which cannot be shown>"
