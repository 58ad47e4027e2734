"""The task class: what ``@app.task`` makes of a function, how it is called, and how it retries."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from contextvars import ContextVar
from traceback import format_exception
from typing import TYPE_CHECKING, Any

from pyqs_celery import _state, exceptions
from pyqs_celery.app.autoretry import add_autoretry
from pyqs_celery.app.options import acks_late, call_signature, positional_counts, starts_per_second
from pyqs_celery.app.request import Context
from pyqs_celery.app.retrying import Exhausted, is_last_receipt, is_native, retry_options, seconds_until
from pyqs_celery.broker.limits import MAX_VISIBILITY_SECONDS
from pyqs_celery.exceptions import (
    CeleryWarning,
    Ignore,
    ImproperlyConfigured,
    MaxRetriesExceededError,
    Reject,
    Retry,
)

if TYPE_CHECKING:
    import inspect

    from pyqs_celery.app.base import Celery

__all__ = ("Context", "Task")

EXECUTION_OPTIONS = (
    "message_group_id",
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


class _OperationalError:
    """kombu's error as an attribute of tasks; found when somebody asks, since finding it imports kombu."""

    def __get__(self, instance: object, owner: type) -> type[Exception]:
        return exceptions.OperationalError


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
    OperationalError: Any = _OperationalError()
    Request: Any = "celery.worker.request:Request"
    Strategy: Any = "celery.worker.strategy:default"
    sqs_retry: str | None = None
    message_group_id: Any = None
    pydantic: bool = False
    request_stack: Any = None

    _backend: Any = None
    _signature: inspect.Signature | None = None
    _positional_counts: range | None = None
    _options: dict[str, Any] | None = None

    def __class_getitem__(cls, item: Any) -> type[Task]:
        """``Task[P, R]`` in annotations, as the stubs of Celery have it."""
        return cls

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.abstract = cls.__dict__.get("abstract", False)

    @property
    def __name__(self) -> str:
        """The function's name, or the class's."""
        return type(self).__name__  # type: ignore[return-value]  # the metaclass has a name of this name too

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
        self.request_stack = RequestStack(self)
        conf = app.conf
        for name, setting in FROM_SETTINGS.items():
            if getattr(self, name, None) is None:
                setattr(self, name, conf[setting])
        annotations = conf.task_annotations or ()
        for annotation in annotations if isinstance(annotations, (list, tuple)) else (annotations,):
            found = (
                {**annotation.get("*", {}), **annotation.get(self.name, {})}
                if isinstance(annotation, Mapping)
                else (annotation.annotate(self) or {})
            )
            for key, value in found.items():
                setattr(self, key.lstrip("@"), value)
        starts_per_second(self.rate_limit)
        if self.time_limit and self.soft_time_limit and self.soft_time_limit >= self.time_limit:
            warnings.warn(
                f"task {self.name}: its soft time limit ({self.soft_time_limit:g}s) is not below the hard one "
                f"({self.time_limit:g}s), so the task is killed before it is told",
                CeleryWarning,
                stacklevel=3,
            )
        if self.sqs_retry not in (None, "message", "native"):
            raise ImproperlyConfigured(f"task {self.name}: sqs_retry is 'message' or 'native', not {self.sqs_retry!r}")
        if self._signature is None:
            self._signature = call_signature(self.run, bind=False)
        if self.autoretry_for and not hasattr(self, "_orig_run"):
            add_autoretry(self)
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
        ``MessageGroupId`` (or ``message_group_id``, as of the task), ``MessageDeduplicationId``, ``DelaySeconds`` and
        ``message_attributes``. Raises TypeError for arguments the task does not take (``typing``), kombu's EncodeError
        and OperationalError.
        """
        if self.typing:
            self._check_arguments(args, kwargs)
        if self._options is None:
            found = {key: getattr(self, key, None) for key in EXECUTION_OPTIONS}
            self._options = {key: value for key, value in found.items() if value is not None}
        if self.pydantic:
            from pyqs_celery.app.pydantic_tasks import dump_arguments

            args, kwargs = dump_arguments(args, kwargs)
        if self.app.conf.task_always_eager:
            args, kwargs = self._through_serializer(args, kwargs, options.get("serializer"))
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
        if self._positional_counts is None:
            self._positional_counts = positional_counts(self._signature)
        if not kwargs and len(args or ()) in self._positional_counts:
            return
        if self._signature is not None and self.app.conf.get("task_typing", True):
            try:
                self._signature.bind(*(args or ()), **(kwargs or {}))
            except TypeError as exc:
                raise TypeError(f"{self.name}() {exc}") from exc

    def _through_serializer(self, args: Any, kwargs: Any, serializer: str | None) -> tuple[Any, Any]:
        """What a worker would get of these arguments, so that eager tests find what cannot be sent."""
        from kombu.serialization import dumps, loads, prepare_accept_content

        wanted = serializer or self.serializer or self.app.conf.task_serializer
        content_type, encoding, data = dumps((list(args or ()), dict(kwargs or {})), serializer=wanted)
        received, keywords = loads(data, content_type, encoding, accept=prepare_accept_content([content_type]))
        return received, keywords

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
        from pyqs_celery.app.eager import apply_eagerly
        from pyqs_celery.utils.ids import uuid

        options.update(link=link, link_error=link_error, retries=retries)
        throw = self.app.conf.task_eager_propagates if throw is None else throw
        return apply_eagerly(self, args or (), kwargs or {}, task_id or uuid(), throw, options)

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

    def map(self, it: Any) -> Any:
        """One message that calls this task with each item."""
        from pyqs_celery.canvas.maps import xmap

        return xmap(self.s(), it, app=self.app)

    def starmap(self, it: Any) -> Any:
        """One message that calls this task with the arguments of each item."""
        from pyqs_celery.canvas.maps import xstarmap

        return xstarmap(self.s(), it, app=self.app)

    def chunks(self, it: Any, n: int) -> Any:
        """A group of messages, each of which calls this task with the arguments of ``n`` items."""
        from pyqs_celery.canvas.maps import chunks

        return chunks(self.s(), it, n, app=self.app)

    def send_event(self, *args: Any, **fields: Any) -> None:
        """Accepted and without effect: SQS has no events."""

    def update_state(
        self, task_id: str | None = None, state: str | None = None, meta: Any = None, **kwargs: Any
    ) -> None:
        """Store a state of the task's own making with its data."""
        self.backend.store_result(task_id or self.request.id, meta, state, request=self.request, **kwargs)

    @property
    def backend(self) -> Any:
        """Where its results are kept: the app's result back end, unless another was assigned."""
        return self._backend if self._backend is not None else self.app.backend

    @backend.setter
    def backend(self, value: Any) -> None:
        self._backend = value

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
        the new message cannot be sent, the old one is given back to its queue, so nothing is lost. Where ``sqs_retry``
        says so, and on FIFO queues unless it says otherwise, this message itself comes back; SQS's ``maxReceiveCount``
        then counts like ``max_retries``.
        """
        request = self.request
        limit = self.max_retries if max_retries is None else max_retries
        if request.called_directly:
            raise exc or sys.exc_info()[1] or Retry("Task can be retried", None)
        if eta is None and countdown is None:
            countdown = self.default_retry_delay
        retries = request.retries + 1
        ret = Retry(exc=exc, when=eta or countdown, is_eager=request.is_eager)
        same = args is None and kwargs is None and not options and self._comes_back(eta, countdown)
        if (limit is not None and retries > limit) or (same and is_last_receipt(request.sqs)):
            if exc is not None:
                exc.task_args, exc.task_kwargs = request.args, request.kwargs  # type: ignore[attr-defined]
                raise Exhausted.mark(exc)
            raise Exhausted.mark(
                MaxRetriesExceededError(
                    f"Can't retry {self.name}[{request.id}] args:{tuple(request.args or ())} kwargs:{request.kwargs}",
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
        elif same:
            ret.native_delay = seconds_until(eta, countdown)  # type: ignore[attr-defined]
        else:
            self._tell_retry(ret)
            try:
                self.apply_async(arguments, keywords, **call)
            except exceptions.OperationalError as error:
                raise Reject(f"the retry could not be sent: {error}", requeue=True) from error
        if throw:
            raise ret
        return ret

    def _tell_retry(self, ret: Retry) -> None:
        """Store RETRY before the new message is sent: whoever runs that may be done before this run ends."""
        from pyqs_celery.execution import ignores_result

        cause = ret.exc or sys.exc_info()[1] or ret
        traceback = "".join(format_exception(cause)) if cause is not ret else None
        request = self.request
        self.backend.mark_as_retry(
            request.id, cause, traceback, request, store_result=not ignores_result(self, request)
        )
        ret.is_stored = True  # type: ignore[attr-defined]

    def _comes_back(self, eta: Any, countdown: Any) -> bool:
        """True if this retry is left to SQS: the same message is hidden for a while.

        Not if it is deleted by now (early acks), or SQS cannot hide a message so long.
        """
        if not is_native(self, self.app.conf, self.request.sqs) or not acks_late(self, self.app.conf):
            return False
        return seconds_until(eta, countdown) <= MAX_VISIBILITY_SECONDS

    def signature_from_request(
        self, request: Context | None = None, args: Any = None, kwargs: Any = None, queue: Any = None, **extra: Any
    ) -> Any:
        """The call of a request (this one, unless another is given) as a signature."""
        request = self.request if request is None else request
        options = {**retry_options(request), **extra}
        if queue:
            options["queue"] = queue
        arguments = request.args if args is None else args
        return self.signature(arguments, request.kwargs if kwargs is None else kwargs, **options)

    subtask_from_request = signature_from_request

    def replace(self, sig: Any) -> Any:
        """Run ``sig``, a call or any canvas, in this task's place: it takes over the id, what follows, and the chord.

        Never returns: raises Ignore once it is sent (eager: gives its value), and ImproperlyConfigured for a signature
        that is a chord's member already, or has no steps.
        https://docs.celeryq.dev/en/stable/reference/celery.app.task.html
        """
        from pyqs_celery.app.replacing import replacement

        return self.on_replace(replacement(self, sig))

    def on_replace(self, sig: Any) -> Any:
        """Send what takes this run's place."""
        if self.request.is_eager:
            return sig.apply().get()
        sig.delay()
        raise Ignore("Replaced by new task")

    def add_to_chord(self, sig: Any, lazy: bool = False) -> Any:
        """Add a member to the chord of the running task, and send it unless ``lazy``.

        Raises ValueError outside of a chord, NotImplementedError where the store cannot count one member more.
        """
        request = self.request
        if not request.chord:
            raise ValueError("Current task is not member of any chord")
        place = {"group_id": request.group, "group_index": request.group_index, "chord": request.chord}
        sig.set(**place, root_id=request.root_id)
        self.backend.add_to_chord(request.group, sig.freeze())
        return sig if lazy else sig.delay()

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


class RequestStack:
    """The requests of a task as Celery's stack shows them: ``task.request_stack.top``."""

    def __init__(self, task: Task) -> None:
        self._task = task

    @property
    def top(self) -> Context | None:
        """The request being run, None outside of one."""
        stack = _requests.get()
        return stack[-1] if stack else None

    @property
    def stack(self) -> list[Context]:
        """All of them, the newest last."""
        return list(_requests.get())

    def push(self, request: Context) -> None:
        """Make a request the current one."""
        self._task.push_request(request)

    def pop(self) -> None:
        """Make the one before it current again."""
        self._task.pop_request()

    def __len__(self) -> int:
        return len(_requests.get())


FROM_SETTINGS = {
    "ignore_result": "task_ignore_result",
    "rate_limit": "task_default_rate_limit",
    "serializer": "task_serializer",
    "track_started": "task_track_started",
    "store_errors_even_if_ignored": "task_store_errors_even_if_ignored",
    "priority": "task_default_priority",
}
"""Attributes that take an application's setting where a task has none. Those of acknowledgement stay None: the worker's
policies must tell what was said from what was not."""


def call_in_worker(task: Task, args: Any, kwargs: Any) -> Any:
    """Run a task whose request is in place: by ``__call__`` where a class of the user's has its own, else by ``run``."""
    if type(task).__call__ is Task.__call__:
        return task.run(*args, **kwargs)
    token = _entered.set(task)
    try:
        return task(*args, **kwargs)
    finally:
        _entered.reset(token)
