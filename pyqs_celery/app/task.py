"""The task class: what ``@app.task`` makes of a function, how it is called, and how it retries."""

from __future__ import annotations

import inspect
import random
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any

from pyqs_celery import _state
from pyqs_celery.app.request import Context
from pyqs_celery.exceptions import Ignore, MaxRetriesExceededError, OperationalError, Reject, Retry

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery

__all__ = ("Context", "Task")

EXECUTION_OPTIONS = (
    "queue",
    "routing_key",
    "exchange",
    "priority",
    "expires",
    "serializer",
    "delivery_mode",
    "compression",
    "time_limit",
    "soft_time_limit",
)
"""Task attributes that go into every call of the task."""
_requests: ContextVar[tuple[Context, ...]] = ContextVar("pyqs_celery_requests", default=())
_entered: ContextVar[Any] = ContextVar("pyqs_celery_entered", default=None)
"""The task whose own ``__call__`` a worker is about to run, so that ``super().__call__`` keeps the worker's request."""


class Task:
    """A task. Subclass it for hooks and shared state; one instance serves a process.

    Attributes, hooks and defaults are Celery's: https://docs.celeryq.dev/en/stable/reference/celery.app.task.html.
    ``None`` stands for the setting of the same meaning.
    """

    abstract: bool = True
    app: Any = None
    name: Any = None
    bind_self: bool = False
    typing: Any = True
    max_retries: int | None = 3
    default_retry_delay: float = 3 * 60
    autoretry_for: tuple[type[BaseException], ...] = ()
    dont_autoretry_for: tuple[type[BaseException], ...] = ()
    throws: tuple[type[BaseException], ...] = ()
    rate_limit: Any = None
    ignore_result: Any = None
    trail: bool = True
    send_events: bool = True
    store_errors_even_if_ignored: Any = None
    serializer: Any = None
    compression: Any = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    track_started: Any = None
    acks_late: Any = None
    acks_on_failure_or_timeout: Any = None
    acks_on_failure: Any = None
    acks_on_timeout: Any = None
    reject_on_worker_lost: Any = None
    expires: Any = None
    priority: Any = None
    resultrepr_maxsize: int = 1024
    queue: Any = None
    MaxRetriesExceededError = MaxRetriesExceededError
    OperationalError = OperationalError
    Request: Any = None
    Strategy: Any = None

    _signature: inspect.Signature | None = None
    _options: dict[str, Any] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.abstract = cls.__dict__.get("abstract", False)

    def __repr__(self) -> str:
        return f"<@task: {self.name} of {getattr(self.app, 'main', None) or '__main__'}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task here and now, outside of any worker."""
        if _entered.get() is self:
            _entered.set(None)
            return self.run(*args, **kwargs)
        token = _state.push_task(self)
        self.push_request(args=args, kwargs=kwargs)
        try:
            return self.run(*args, **kwargs)
        finally:
            self.pop_request()
            _state.pop_task(token)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """The work of the task; a function that was decorated, or your own method."""
        raise NotImplementedError("Tasks must define the run method.")

    def bind(self, app: Celery) -> None:
        """Take the settings of ``app``, and the attributes that task_annotations give this task."""
        self.app = app
        self._options = None
        conf = app.conf
        if self.ignore_result is None:
            self.ignore_result = conf.task_ignore_result
        annotations = conf.task_annotations or ()
        for annotation in annotations if isinstance(annotations, (list, tuple)) else (annotations,):
            found = (
                {**annotation.get("*", {}), **annotation.get(self.name, {})}
                if isinstance(annotation, Mapping)
                else (annotation.annotate(self) or {})
            )
            for key, value in found.items():
                setattr(self, key.lstrip("@"), value)
        self.on_bound(app)

    def _get_app(self) -> Any:
        return self.app

    # -- the request -------------------------------------------------------------------------------

    @property
    def request(self) -> Context:
        """The message being run; an empty one outside of a run."""
        stack = _requests.get()
        return stack[-1] if stack else Context()

    def push_request(self, *args: Any, **kwargs: Any) -> None:
        """Make a request the current one."""
        request = args[0] if args and isinstance(args[0], Context) else Context(*args, **kwargs)
        _requests.set((*_requests.get(), request))

    def pop_request(self) -> None:
        """Make the one before it current again."""
        _requests.set(_requests.get()[:-1])

    def add_trail(self, result: Any) -> Any:
        """Note a result as a child of this run."""
        if self.trail:
            self.request.children.append(result)
        return result

    # -- calling -----------------------------------------------------------------------------------

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        """Send the task with these arguments; ``apply_async`` takes options too."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Any = None,
        kwargs: Any = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        **options: Any,
    ) -> Any:
        """Send the task, and give an AsyncResult with its id.

        ``countdown`` (seconds) and ``eta`` (datetime) say when it may run, ``expires`` (seconds or datetime) until
        when, ``queue`` where; also ``task_id``, ``serializer``, ``compression``, ``headers``, ``priority``,
        ``time_limit``, ``soft_time_limit``, ``link``, ``link_error``, ``shadow``, ``ignore_result``, and SQS's
        ``MessageGroupId``, ``MessageDeduplicationId``, ``DelaySeconds`` and ``message_attributes``. Raises TypeError
        for arguments the task does not take (``typing``), kombu's EncodeError and OperationalError.
        """
        if self.typing and self.app.conf.get("task_typing", True):
            self._check_arguments(args, kwargs)
        if self._options is None:
            found = {key: getattr(self, key, None) for key in EXECUTION_OPTIONS}
            self._options = {key: value for key, value in found.items() if value is not None}
        if self.app.conf.task_always_eager:
            return self.apply(args, kwargs, task_id=task_id, link=link, link_error=link_error, **options)
        options = {**self._options, **options}
        options.setdefault("ignore_result", self.ignore_result)
        if shadow or type(self).shadow_name is not Task.shadow_name:
            options["shadow"] = shadow or self.shadow_name(args, kwargs, options)
        for key, value in (("task_id", task_id), ("link", link), ("link_error", link_error)):
            if value is not None:
                options[key] = value
        return self.app.send_task(self.name, args, kwargs, task_type=self, **options)

    def _check_arguments(self, args: Any, kwargs: Any) -> None:
        if args is not None and not isinstance(args, (list, tuple)):
            raise TypeError("task args must be a list or tuple")
        if kwargs is not None and not isinstance(kwargs, Mapping):
            raise TypeError("task keyword arguments must be a mapping")
        if self._signature is not None:
            try:
                self._signature.bind(*(args or ()), **(kwargs or {}))
            except TypeError as exc:
                raise TypeError(f"{self.name}() {exc}") from exc

    def shadow_name(self, args: Any, kwargs: Any, options: Any) -> str | None:
        """Another name to show for a call, for subclasses."""
        return None

    def apply(
        self,
        args: Any = None,
        kwargs: Any = None,
        link: Any = None,
        link_error: Any = None,
        task_id: str | None = None,
        retries: int = 0,
        throw: bool | None = None,
        **options: Any,
    ) -> Any:
        """Run the task here and now, through the same steps as in a worker, and give an EagerResult."""
        from pyqs_celery.execution import apply_eagerly

        options.update(link=link, link_error=link_error, retries=retries)
        throw = self.app.conf.task_eager_propagates if throw is None else throw
        return apply_eagerly(self, args or (), kwargs or {}, task_id or str(uuid.uuid4()), throw, options)

    def AsyncResult(self, task_id: str, **kwargs: Any) -> Any:  # noqa: N802 - Celery's name
        """The result of a call of this task, by its id."""
        return self.app.AsyncResult(task_id, task_name=self.name, **kwargs)

    def signature(self, args: Any = None, *starargs: Any, **starkwargs: Any) -> Any:
        """A call as a value, not yet made."""
        from pyqs_celery.canvas import signature

        starkwargs.setdefault("app", self.app)
        return signature(self, args, *starargs, **starkwargs)

    subtask = signature

    def s(self, *args: Any, **kwargs: Any) -> Any:
        """A signature with these arguments."""
        return self.signature(args, kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Any:
        """A signature that takes no result of another task."""
        return self.signature(args, kwargs, immutable=True)

    def send_event(self, *args: Any, **fields: Any) -> None:
        """Accepted and without effect: SQS has no events."""

    def update_state(
        self, task_id: str | None = None, state: str | None = None, meta: Any = None, **kwargs: Any
    ) -> None:
        """Store a state of the task's own making with its data."""
        self.backend.store_result(task_id or self.request.id, meta, state, request=self.request, **kwargs)

    @property
    def backend(self) -> Any:
        """The app's result back end."""
        return self.app.backend

    # -- retrying ----------------------------------------------------------------------------------

    def retry(
        self,
        args: Any = None,
        kwargs: Any = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: Any = None,
        countdown: Any = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """Send the task again with ``retries`` one higher, and raise Retry (``throw=False``: return it).

        Over ``max_retries`` it raises ``exc``, or MaxRetriesExceededError. SQS's group and attributes go along. If
        the new message cannot be sent, the old one is given back to its queue, so nothing is lost.
        """
        request = self.request
        limit = self.max_retries if max_retries is None else max_retries
        if request.called_directly:
            raise exc or Retry("Task can be retried", None)
        if eta is None and countdown is None:
            countdown = self.default_retry_delay
        retries = request.retries + 1
        ret = Retry(exc=exc, when=eta or countdown, is_eager=request.is_eager)
        if limit is not None and retries > limit:
            if exc is not None:
                exc.task_args, exc.task_kwargs = request.args, request.kwargs  # type: ignore[attr-defined]
                raise _Exhausted.mark(exc)
            raise _Exhausted.mark(
                MaxRetriesExceededError(
                    f"Can't retry {self.name}[{request.id}] args:{request.args} kwargs:{request.kwargs}",
                    task_args=request.args,
                    task_kwargs=request.kwargs,
                )
            )
        call = retry_options(request) | {"retries": retries, "eta": eta, "countdown": countdown, **options}
        arguments = request.args if args is None else args
        keywords = request.kwargs if kwargs is None else kwargs
        ret.sig = self.signature(arguments, keywords, **{k: v for k, v in call.items() if v is not None})
        if request.is_eager:
            ret.eager_call = (arguments, keywords, call)  # type: ignore[attr-defined]
        else:
            try:
                self.apply_async(arguments, keywords, **call)
            except OperationalError as error:
                raise Reject(f"the retry could not be sent: {error}", requeue=True) from error
        if throw:
            raise ret
        return ret

    # -- hooks -------------------------------------------------------------------------------------

    def on_bound(self, app: Any) -> None:
        """Called when the task belongs to an app."""

    def before_start(self, task_id: Any, args: Any, kwargs: Any) -> None:
        """Called before the task runs; raising fails it."""

    def on_success(self, retval: Any, task_id: Any, args: Any, kwargs: Any) -> None:
        """Called after the task returned."""

    def on_retry(self, exc: Any, task_id: Any, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called when the task is to be retried."""

    def on_failure(self, exc: Any, task_id: Any, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called when the task failed."""

    def after_return(self, status: Any, retval: Any, task_id: Any, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called after success or failure."""


class _Exhausted:
    """Marks an exception as the end of a task's own retries."""

    ATTRIBUTE = "_pyqs_celery_exhausted"

    @classmethod
    def mark(cls, exc: BaseException) -> BaseException:
        """Mark an exception, and give it back."""
        # an exception with slots takes no mark: it counts as an ordinary failure, and is delivered again
        with suppress(AttributeError):
            setattr(exc, cls.ATTRIBUTE, True)
        return exc


def is_exhausted(exc: BaseException) -> bool:
    """True if a task raised this because its retries were used up."""
    return bool(getattr(exc, _Exhausted.ATTRIBUTE, False))


def retry_options(request: Context) -> dict[str, Any]:
    """The options with which a request is sent again: everything but the arguments and the time."""
    info = request.delivery_info or {}
    limits = list(request.timelimit or (None, None))
    properties = request.properties or {}
    sqs = request.sqs or {}
    found = {
        "task_id": request.id,
        "link": request.callbacks,
        "link_error": request.errbacks,
        "group_id": request.group,
        "group_index": request.group_index,
        "chain": request.chain,
        "chord": request.chord,
        "root_id": request.root_id,
        "parent_id": request.id,
        "shadow": request.shadow,
        "reply_to": request.reply_to,
        "expires": request.expires,
        "time_limit": limits[0],
        "soft_time_limit": limits[1],
        "headers": request.headers,
        "ignore_result": request.ignore_result,
        "stamped_headers": request.stamped_headers,
        "replaced_task_nesting": request.replaced_task_nesting or None,
        "queue": info.get("routing_key"),
        "priority": info.get("priority"),
        "origin": request.origin,
        "MessageGroupId": sqs.get("group_id") or properties.get("MessageGroupId"),
        "message_attributes": sqs.get("message_attributes") or None,
        **{header: (request.stamps or {}).get(header) for header in request.stamped_headers or ()},
    }
    return {key: value for key, value in found.items() if value is not None}


def task_from_function(
    app: Celery, fun: Callable[..., Any], name: str, base: type[Task], bind: bool, options: dict[str, Any]
) -> Task:
    """An instance of a subclass of ``base`` whose ``run`` is ``fun``."""
    run = fun if bind else staticmethod(fun)
    members = {
        "app": app,
        "name": name,
        "run": run,
        "_decorated": True,
        "bind_self": bind,
        "abstract": False,
        "__doc__": fun.__doc__,
        "__module__": fun.__module__,
        "__annotations__": getattr(fun, "__annotations__", {}),
        "__wrapped__": run,
        **options,
    }
    task: Task = type(fun.__name__, (base,), members)()
    task._signature = _call_signature(fun, bind)
    if task.autoretry_for:
        add_autoretry(task)
    return task


def _call_signature(fun: Callable[..., Any], bind: bool) -> inspect.Signature | None:
    """What a caller may pass; None where Python cannot tell."""
    try:
        signature = inspect.signature(fun)
    except (TypeError, ValueError):
        return None
    parameters = list(signature.parameters.values())
    if (
        bind
        and parameters
        and parameters[0].kind
        in (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
        )
    ):
        return signature.replace(parameters=parameters[1:])
    return signature


def add_autoretry(task: Task) -> None:
    """Wrap ``run`` so that the exceptions of ``autoretry_for`` retry the task."""
    original = task.run
    retry_kwargs = dict(getattr(task, "retry_kwargs", None) or {})

    @wraps(original)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        except (Ignore, Retry):
            raise
        except task.dont_autoretry_for:
            raise
        except task.autoretry_for as exc:
            again = dict(retry_kwargs)
            if getattr(task, "retry_backoff", False):
                again["countdown"] = backoff_delay(task)
            if "override_max_retries" in again:
                again["max_retries"] = again.pop("override_max_retries")
            ret = task.retry(exc=exc, throw=False, **again)
            raise ret from exc

    task.run = run  # type: ignore[method-assign]
    task._orig_run = original  # type: ignore[attr-defined]


def backoff_delay(task: Task) -> int:
    """The seconds before the next automatic retry: doubled each time, bounded, and random below that unless told not."""
    factor = int(max(1, task.retry_backoff))  # type: ignore[attr-defined]
    most = int(getattr(task, "retry_backoff_max", 600))
    delay: int = min(most, factor * 2**task.request.retries)
    if getattr(task, "retry_jitter", True):
        delay = random.randrange(delay + 1)
    return max(0, delay)


def call_in_worker(task: Task, args: Any, kwargs: Any) -> Any:
    """Run a task whose request is in place: by ``__call__`` where a class of the user's has its own, else by ``run``."""
    if type(task).__call__ is Task.__call__:
        return task.run(*args, **kwargs)
    token = _entered.set(task)
    try:
        return task(*args, **kwargs)
    finally:
        _entered.reset(token)
