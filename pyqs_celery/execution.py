"""Run one task and say what came of it: the same steps in a worker's child, in eager mode and in tests.

Order, as Celery's: request in place, ``before_start``, ``task_prerun``, the task, then for a success callbacks and
the next chain step, the result, ``on_success``, ``task_success``; for a failure the result, ``on_failure``,
``task_failure``, errbacks; then ``after_return`` and ``task_postrun``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyqs_celery import _state, continuations, signals, states
from pyqs_celery.app.request import Context, from_message
from pyqs_celery.app.retrying import is_exhausted
from pyqs_celery.app.task import call_in_worker
from pyqs_celery.app.trace import tracer_of
from pyqs_celery.exceptions import Ignore, OperationalError, Reject, Retry, SoftTimeLimitExceeded
from pyqs_celery.outcome import Outcome
from pyqs_celery.utils.einfo import ExceptionInfo
from pyqs_celery.utils.text import one_line, saferepr
from pyqs_celery.wire.message import TaskMessage

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery
    from pyqs_celery.app.task import Task

logger = logging.getLogger("celery.app.trace")


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
    time_limit: AbstractContextManager[Any] | None = None,
) -> Outcome:
    """Run the task that a message asks for. Never raises but for SystemExit and KeyboardInterrupt.

    ``sqs`` holds SQS's facts of the delivery (``request.sqs``), ``last_delivery`` says that a failure is final, so
    that errbacks fire once. ``time_limit`` is entered around the task's own code alone, and may raise
    SoftTimeLimitExceeded there.
    """
    task = app.tasks.get(message.task)
    if task is None:
        return Outcome("unknown", message.task, message.id, f"no task {one_line(message.task)!r} is registered here")
    unsupported = continuations.unsupported(message)
    if unsupported:
        return Outcome("unsupported", task.name, message.id, unsupported)
    request = from_message(message, sqs=sqs, hostname=hostname)
    request.id = request.id or sqs.get("message_id")
    if native_retry(app, task):
        # every receipt of the same message is a try of its task
        request.retries = (message.retries or 0) + max(0, int(sqs.get("receive_count") or 1) - 1)
    request._last_delivery, request._time_limit = last_delivery, time_limit
    started = time.monotonic()
    try:
        tracer = tracer_of(app, task, hostname)
        ended = tracer(request.id, message.args, message.kwargs, vars(request))
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as exc:  # noqa: BLE001 - whatever it was, the message must be given a fate
        return _internal_error(task, request, exc, time.monotonic() - started)
    return _outcome(task, request, ended, time.monotonic() - started)


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
    logger.critical("Task %s[%s] INTERNAL ERROR: %r\n%s", task.name, request.id, exc, einfo.traceback)
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
        "rejected" if isinstance(exc, OperationalError) else "failed",
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
        limit: AbstractContextManager[Any] | None = request.get("_time_limit")
        self.time_limit = limit or nullcontext()

    def perform(self, args: Any, kwargs: Any) -> Ended:
        """All steps. Raises only what is not the task's own failure."""
        started = time.monotonic()
        with self._in_place(args, kwargs):
            ended = self._call(args, kwargs)
            runtime = time.monotonic() - started
            finish = {
                states.SUCCESS: self._succeeded,
                states.RETRY: self._retried,
                states.FAILURE: self._failed,
                states.REJECTED: self._rejected,
                states.IGNORED: self._ignored,
            }[ended.state]
            try:
                finish(ended, runtime)
                if ended.state in (states.SUCCESS, states.FAILURE):
                    task, request = self.task, self.request
                    task.after_return(ended.state, ended.value, request.id, args, kwargs, ended.einfo)
            finally:
                signals.task_postrun.send(
                    sender=self.task,
                    task_id=self.request.id,
                    task=self.task,
                    args=args,
                    kwargs=kwargs,
                    retval=ended.value,
                    state=ended.state,
                )
        return ended

    @contextmanager
    def _in_place(self, args: Any, kwargs: Any) -> Iterator[None]:
        self.request.args, self.request.kwargs = args, kwargs
        token = _state.push_task(self.task)
        self.task.push_request(self.request)
        try:
            yield
        finally:
            self.task.pop_request()
            _state.pop_task(token)

    def _call(self, args: Any, kwargs: Any) -> Ended:
        task, request = self.task, self.request
        signals.task_prerun.send(sender=task, task_id=request.id, task=task, args=args, kwargs=kwargs)
        try:
            task.before_start(request.id, args, kwargs)
            if task.track_started:
                task.backend.store_result(request.id, None, states.STARTED, request=request)
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
        continuations.send_next(self.app, request, ended.value)
        self._store(ended.value, states.SUCCESS)
        self._hook(task.on_success, ended.value, request.id, request.args, request.kwargs)
        if signals.task_success.receivers:
            signals.task_success.send(sender=task, result=ended.value, runtime=runtime)
        if logger.isEnabledFor(logging.INFO):
            shown = saferepr(ended.value, task.resultrepr_maxsize)
            self._log(logging.INFO, "Task %s[%s] succeeded in %ss: %s", runtime, one_line(shown, 2048))

    def _retried(self, ended: Ended, runtime: float) -> None:
        task, request, einfo = self.task, self.request, ended.einfo
        cause = getattr(ended.value, "exc", None) or ended.value
        self._store(cause, states.RETRY, einfo)
        self._hook(task.on_retry, cause, request.id, request.args, request.kwargs, einfo)
        signals.task_retry.send(sender=task, request=request, reason=ended.value, einfo=einfo)
        self._log(logging.INFO, "Task %s[%s] retry: %s", one_line(ended.value))

    def _failed(self, ended: Ended, runtime: float) -> None:
        task, request, exc, einfo = self.task, self.request, ended.value, ended.einfo
        assert einfo is not None
        self._store(exc, states.FAILURE, einfo)
        self._hook(task.on_failure, exc, request.id, request.args, request.kwargs, einfo)
        signals.task_failure.send(
            sender=task,
            task_id=request.id,
            exception=exc,
            args=request.args,
            kwargs=request.kwargs,
            traceback=einfo.tb,
            einfo=einfo,
        )
        if self.last_delivery or is_exhausted(exc):
            continuations.send_errbacks(self.app, request, exc, einfo)
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

    def _store(self, value: Any, state: str, einfo: ExceptionInfo | None = None) -> None:
        ignored = self.request.ignore_result if self.request.ignore_result is not None else self.task.ignore_result
        if ignored and not (state == states.FAILURE and self.app.conf.task_store_errors_even_if_ignored):
            return
        if self.request.is_eager and not self.app.conf.task_store_eager_result:
            return
        traceback = einfo.traceback if einfo is not None else None
        self.app.backend.store_result(self.request.id, value, state, traceback, request=self.request)

    def _hook(self, hook: Any, *args: Any) -> None:
        """Call a hook of the task; what it raises is told, and changes nothing of how the task ended."""
        try:
            hook(*args)
        except Exception:  # the task has ended; the message's fate must not depend on a hook
            logger.exception("Task %s[%s]: %s raised", self.task.name, self.request.id, hook.__name__)


def _completed(value: Any) -> Any:
    """Wait for the value of an ``async def`` task."""
    if not hasattr(value, "__await__"):
        return value
    from pyqs_celery.utils import aio

    return aio.run(value)


def native_retry(app: Celery, task: Task) -> bool:
    """True if a retry of this task is the same message coming back, not a new one (``sqs_retry = "native"``)."""
    return bool((task.sqs_retry or app.conf.sqs_retry) == "native")


def _repr(exc: BaseException) -> str:
    try:
        return repr(exc)
    except Exception:  # noqa: BLE001 - an exception class of the user's may fail to show itself
        return f"<{type(exc).__name__}, which cannot be shown>"


def apply_eagerly(task: Task, args: Any, kwargs: Any, task_id: str, throw: bool, options: dict[str, Any]) -> Any:
    """Run a task in this process, retries included, and give its EagerResult. Countdowns are not waited for."""
    from pyqs_celery.result import EagerResult

    app = task.app
    link, link_error = options.get("link"), options.get("link_error")
    request = Context(
        options.get("headers") or {},
        id=task_id,
        task=task.name,
        retries=options.get("retries") or 0,
        is_eager=True,
        called_directly=False,
        headers=options.get("headers"),
        callbacks=_listed(link),
        errbacks=_listed(link_error),
        root_id=task_id,
        ignore_result=options.get("ignore_result"),
        delivery_info={"is_eager": True, "exchange": "", "routing_key": options.get("queue"), "priority": None},
        hostname="localhost",
    )
    ended = tracer_of(app, task, "localhost", eager=True)(task_id, list(args), dict(kwargs), vars(request))
    if ended.state == states.RETRY:
        again = getattr(ended.value, "eager_call", None)
        if again is not None:
            more_args, more_kwargs, call = again
            kept = {
                "retries": call.get("retries"),
                "link": link,
                "link_error": link_error,
                "headers": options.get("headers"),
            }
            return apply_eagerly(task, more_args, more_kwargs, task_id, throw, kept)
    if ended.state == states.FAILURE and throw:
        raise ended.value
    traceback = ended.einfo.traceback if ended.einfo is not None else None
    return EagerResult(task_id, ended.value, ended.state, traceback=traceback, name=task.name)


def _listed(value: Any) -> list[Any] | None:
    if not value:
        return None
    return list(value) if isinstance(value, (list, tuple)) else [value]
