"""The application class: it owns the settings, the registry and the way out to the queues."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pyqs_celery import _state
from pyqs_celery.app import builtins, config_sources, loader, routes
from pyqs_celery.app.config import Settings
from pyqs_celery.app.registry import TaskRegistry
from pyqs_celery.app.results import RESULT_SETTINGS, Results
from pyqs_celery.app.surface import Surface
from pyqs_celery.exceptions import AlwaysEagerIgnored, DuplicateTaskNameWarning, ImproperlyConfigured
from pyqs_celery.local_proxy import Proxy, maybe_evaluate
from pyqs_celery.utils.imports import symbol_by_name

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from datetime import datetime

    from typing_extensions import Self

    from pyqs_celery.broker.config import BrokerConfig
    from pyqs_celery.broker.publisher import Publisher

TASK_CLASS = "pyqs_celery.app.task:Task"


class Celery(Surface):
    """An application: ``app = Celery("proj", broker="sqs://")``.

    ``main`` names tasks defined in ``__main__``; ``broker``, ``backend``, ``include`` and any other keyword are
    settings; ``task_cls`` is the base class of its tasks (class or dotted name); ``config_source`` is given to
    ``config_from_object``. Interface: https://docs.celeryq.dev/en/stable/reference/celery.html
    """

    task_cls: Any = TASK_CLASS
    registry_cls: Any = TaskRegistry
    loader_cls: Any = loader.Loader
    builtin_fixups: frozenset[str] = frozenset({"pyqs_celery.fixups.django:fixup"})
    _publisher: Publisher | None = None

    def __init__(
        self,
        main: str | None = None,
        *,
        broker: Any = None,
        backend: Any = None,
        include: Any = None,
        task_cls: Any = None,
        log: Any = None,
        control: Any = None,
        amqp: Any = None,
        loader: Any = None,
        fixups: Any = None,
        config_source: Any = None,
        namespace: str | None = None,
        set_as_current: bool = True,
        autofinalize: bool = True,
        changes: Mapping[str, Any] | None = None,
        tasks: Any = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        self.main = main
        self._choose_classes(log=log, control=control, amqp=amqp)
        self.task_cls = task_cls or self.task_cls
        self.autofinalize = autofinalize
        self.finalized = False
        self.configured = False
        self.set_as_current = set_as_current
        self.namespace = namespace
        self.loader = loader_for(self, loader or self.loader_cls)
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._is_finalizing = False
        self._pending: deque[Proxy] = deque()
        self._tasks: Any = maybe_registry(tasks, self.registry_cls)
        self._source = config_source
        self._task: Any = None
        self._routes: list[Any] | None = None
        self._broker_config: BrokerConfig | None = None
        self._results = Results(self)
        self._conf = self._new_settings(namespace)
        self._take_given(
            {"broker_url": broker, "result_backend": backend, "include": include, **settings, **(changes or {})}
        )
        if set_as_current:
            self._become_current()
        self.fixups = [made for each in (fixups or self.builtin_fixups) if (made := symbol_by_name(each)(self))]
        self.on_init()
        _state.register_app(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.main or '__main__'} at {id(self):#x}>"

    def on_init(self) -> None:
        """Called at the end of the constructor, for subclasses."""

    def set_current(self) -> None:
        """Make this the current app of this thread."""
        _state.set_current_app(self)

    def _become_current(self) -> None:
        self.set_current()
        if _state.default_app is None:
            self.set_default()

    def set_default(self) -> None:
        """Make this the app of threads that have none."""
        _state.set_default_app(self)

    def close(self) -> None:
        """Close what the app keeps open; it is opened again when it is needed."""
        self._close_publisher()
        self._results.close()

    def _close_publisher(self) -> None:
        made = vars(self).pop("_publisher", None)
        if made is not None:
            made.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # -- configuration -----------------------------------------------------------------------------

    def _take_given(self, settings: Mapping[str, Any]) -> None:
        for name, value in settings.items():
            if value is not None:
                self._conf[name] = value

    def _new_settings(self, namespace: str | None) -> Settings:
        return Settings(self._load_config, os.environ, self._setting_changed, namespace, self._configured)

    def _load_config(self) -> Mapping[str, Any]:
        self.on_configure.send(sender=self)
        source = self._source
        if source is None:
            return config_sources.default_source()
        return config_sources.read(source, self._conf.namespace)

    def _configured(self) -> None:
        self.configured = True
        self.on_after_configure.send(sender=self, source=self._conf)

    def _setting_changed(self, name: str) -> None:
        if name == "task_routes":
            self._routes = None
        if name.startswith("broker_"):
            self._broker_config = None
            self._close_publisher()
        if name in ("sqs_publish_timeout", "task_create_missing_queues"):
            self._close_publisher()
        if name.startswith(RESULT_SETTINGS):
            self._results.forget()

    @property
    def conf(self) -> Settings:
        """The settings; their source is read when the first of them is asked for, so setting one reads nothing yet."""
        return self._conf

    @conf.setter
    def conf(self, value: Any) -> None:
        raise ImproperlyConfigured("use app.config_from_object(...) or app.conf.update(...) instead of assigning conf")

    def config_from_object(
        self, obj: Any, silent: bool = False, force: bool = False, namespace: str | None = None
    ) -> None:
        """Read settings from an object, a module or its dotted name, when they are first needed (``force``: now).

        ``namespace="CELERY"`` reads ``CELERY_`` names only. ``silent`` ignores a module that does not import.
        """
        self._source = obj
        self.configured = False
        fresh = self._new_settings(namespace if namespace is not None else self.namespace)
        fresh._changes.update(self._conf._changes)
        fresh._defaults.update(self._conf._defaults)
        self._conf = fresh
        self._routes = self._broker_config = None
        self._results.forget()
        if force or silent:
            try:
                self.conf._read()
            except ImproperlyConfigured:
                if not silent:
                    raise
                self._source = {}

    def config_from_envvar(self, variable_name: str, silent: bool = False, force: bool = False) -> bool:
        """Read settings from the module an environment variable names."""
        name = os.environ.get(variable_name)
        if not name:
            if silent:
                return False
            raise ImproperlyConfigured(f"the environment variable {variable_name} is not set; it should name a module")
        self.config_from_object(name, silent=silent, force=force)
        return True

    def add_defaults(self, fun: Any) -> None:
        """Settings that hold unless something else sets them: a mapping, or a function that gives one."""
        values = fun() if callable(fun) else fun
        for key, value in values.items():
            self._conf._defaults.setdefault(key, value)
        self._conf._known = {}

    @property
    def timezone(self) -> Any:
        """The zone of the application's own times."""
        from pyqs_celery.utils.times import zone

        # TIME_ZONE is Django's, and stands where its settings are the source
        return zone(self.conf.first("timezone", "TIME_ZONE"), utc=self.conf.enable_utc)

    def now(self) -> datetime:
        """The present, in the app's timezone."""
        from pyqs_celery.app import sending

        return sending.utc_now().astimezone(self.timezone)

    # -- tasks -------------------------------------------------------------------------------------

    @property
    def tasks(self) -> TaskRegistry:
        """All tasks by name; looking finalises the app."""
        self.finalize(auto=True)
        return self._tasks  # type: ignore[no-any-return]

    def finalize(self, auto: bool = False) -> None:
        """Evaluate tasks that were declared lazily and take in shared ones."""
        if self._pid != os.getpid():  # forked, perhaps while another thread of the parent was in the middle of this
            self._pid, self._lock = os.getpid(), threading.RLock()
            self.finalized, self._is_finalizing = self.finalized and not self._is_finalizing, False
        with self._lock:
            if self.finalized:
                return
            if auto and not self.autofinalize:
                raise RuntimeError("Contract breach: app not finalized")
            self.finalized = self._is_finalizing = True
            builtins.register(self)
            _state.announce_app_finalized(self)
            while self._pending:
                maybe_evaluate(self._pending.popleft())
            for task in self._tasks.values():
                task.bind(self)
            self._is_finalizing = False
            self.on_after_finalize.send(sender=self)

    @property
    def Task(self) -> Any:  # noqa: N802 - Celery's name
        """The base class of this app's tasks; may be assigned."""
        if self._task is None:
            self._task = self.create_task_cls()
        return self._task

    @Task.setter
    def Task(self, value: Any) -> None:  # noqa: N802
        self._task = value

    def create_task_cls(self) -> Any:
        """A subclass of ``task_cls`` bound to this app."""
        try:
            base = symbol_by_name(self.task_cls)
        except (ImportError, AttributeError) as exc:
            raise ImproperlyConfigured(f"task_cls {self.task_cls!r} cannot be imported: {exc}") from exc
        return type(
            base.__name__, (base,), {"_app": self, "app": self, "abstract": True, "__module__": base.__module__}
        )

    def subclass_with_self(
        self,
        Class: Any,  # noqa: N803 - Celery's name
        name: str | None = None,
        attribute: str = "app",
        reverse: str | None = None,
        keep_reduce: bool = False,
        **attributes: Any,
    ) -> Any:
        """A subclass of ``Class`` that knows this app as ``attribute``."""
        base = symbol_by_name(Class)
        return type(name or base.__name__, (base,), {attribute: self, "__module__": base.__module__, **attributes})

    def task(self, *args: Any, **options: Any) -> Any:
        """Decorate a function as a task: ``@app.task`` or ``@app.task(bind=True, max_retries=5, ...)``.

        Unknown options become attributes of the task. The result stands for the task, which is made when the app is
        finalised.
        """
        if len(args) == 1 and callable(args[0]):
            return self._declare(args[0], options)
        if args:
            raise TypeError(f"@task() takes exactly 1 argument ({len(args)} given)")
        return lambda fun: self._declare(fun, options)

    def _declare(self, fun: Any, options: dict[str, Any]) -> Any:
        lazy = options.pop("lazy", True)
        if self.finalized or not lazy or options.pop("shared", None) is False:
            return self._task_from_fun(fun, **options)
        proxy = Proxy(lambda: self._task_from_fun(fun, **options), once=True)
        self._pending.append(proxy)
        return proxy

    def _task_from_fun(
        self, fun: Any, name: str | None = None, base: Any = None, bind: bool = False, **options: Any
    ) -> Any:
        from pyqs_celery.app.task_factory import task_from_function

        name = name or self.gen_task_name(fun.__name__, fun.__module__)
        if name in self._tasks:
            known = self._tasks[name]
            if not _same_function(known, fun):
                sentence = f"task {name} is declared twice; the first one, {_place(known)}, stays"
                warnings.warn(DuplicateTaskNameWarning(sentence), stacklevel=5)
            return known
        task = task_from_function(self, fun, name, symbol_by_name(base) or self.Task, bind, options)
        self._tasks[name] = task
        task.bind(self)
        return task

    def register_task(self, task: Any, **options: Any) -> Any:
        """Add an instance (or class) of a task class."""
        task = task() if isinstance(task, type) else task
        if not task.name:
            task.name = self.gen_task_name(type(task).__name__, type(task).__module__)
        self._tasks[task.name] = task
        task.bind(self)
        return task

    def gen_task_name(self, name: str, module: str) -> str:
        """The name of a task: its module and its own, with ``main`` for ``__main__``."""
        return f"{self.main if module == '__main__' and self.main else module}.{name}"

    def autodiscover_tasks(self, packages: Any = None, related_name: str | None = "tasks", force: bool = False) -> None:
        """Import ``related_name`` of each package when the worker starts (``force``: now).

        ``packages`` is a list, a function that gives one, or None for Django's INSTALLED_APPS.
        """
        self.loader.discover(packages, related_name)
        if force:
            self.loader.autodiscover()

    # -- sending -----------------------------------------------------------------------------------

    def send_task(self, name: str, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Send a task by name, registered or not; every publish of a task goes through here.

        Options are those of ``Task.apply_async``: https://docs.celeryq.dev/en/stable/reference/celery.app.task.html
        """
        from pyqs_celery.app import sending

        if self.conf.task_always_eager:
            warnings.warn(
                AlwaysEagerIgnored("task_always_eager has no effect on send_task: the message is sent"), stacklevel=2
            )
        task = self._tasks.get(name) if self.finalized else None
        parent = _state.get_current_task() if options.get("add_to_parent", True) else None
        if parent is not None and parent.request is not None and not parent.request.called_directly:
            options.setdefault("root_id", parent.request.root_id or parent.request.id)
            options.setdefault("parent_id", parent.request.id)
        result_class = options.get("result_cls") or self.AsyncResult
        result = result_class(sending.publish(self, name, args, kwargs, options, task))
        result.ignored = bool(options.get("ignore_result"))
        if parent is not None:
            parent.add_trail(result)
        return result

    @property
    def routes(self) -> list[Any]:
        """``task_routes`` as functions."""
        if self._routes is None:
            self._routes = routes.prepare(self.conf.task_routes)
        return self._routes

    def queue_for(self, exchange: str, routing_key: str) -> str:
        """The queue that an exchange and routing key mean: the one in ``task_queues`` so bound, else of that name."""
        for queue in self.queue_objects():
            bound = str(getattr(getattr(queue, "exchange", None), "name", "") or "")
            key = getattr(queue, "routing_key", None)
            if key == routing_key and (not exchange or bound == exchange) and key:
                return str(queue.name)
        return routing_key or exchange

    def queue_objects(self) -> list[Any]:
        """``task_queues`` as a list: names, ``kombu.Queue`` objects, or a mapping of either."""
        queues = self.conf.task_queues or ()
        return (
            list(queues)
            if not isinstance(queues, Mapping)
            else [value if hasattr(value, "name") else key for key, value in queues.items()]
        )

    def consume_queues(self) -> tuple[str, ...]:
        """The queues a worker without ``-Q`` serves, by name."""
        names = [str(getattr(queue, "name", queue)) for queue in self.queue_objects()]
        return tuple(names) or (str(self.conf.task_default_queue),)

    def broker_config(self) -> BrokerConfig:
        """Where the queues are, from the settings. Raises ImproperlyConfigured."""
        if self._broker_config is None:
            self._broker_config = self._read_broker_config(self.conf.broker_write_url)
        return self._broker_config

    def consumer_broker_config(self) -> BrokerConfig:
        """The same for a worker, which ``broker_read_url`` may send elsewhere. Raises ImproperlyConfigured."""
        return self._read_broker_config(self.conf.broker_read_url)

    def _read_broker_config(self, url: Any) -> BrokerConfig:
        from pyqs_celery.broker.config import broker_config

        conf = self.conf
        options = conf.broker_transport_options or {}
        return broker_config(url or conf.broker_url, options, os.environ, use_ssl=bool(conf.broker_use_ssl) or None)

    def publisher(self) -> Publisher:
        """The way out; made at the first send, safe under threads and forks."""
        found: Publisher | None = self._publisher
        if found is None:
            from pyqs_celery.broker.publisher import Publisher

            conf = self.conf
            create, seconds = conf.task_create_missing_queues is not False, conf.sqs_publish_timeout
            made = Publisher(self.broker_config(), create_missing=create, budget_seconds=seconds)
            found = vars(self).setdefault("_publisher", made)  # another thread may have been quicker
        return found

    def batch(self) -> AbstractContextManager[None]:
        """Send what is sent inside the block at its end, ten messages to a request: ``with app.batch(): ...``.

        ``delay``, ``apply_async``, ``send_task`` and every canvas give their results at once, as ever. Nothing is sent if the
        block raises. An asyncio task, greenlet or thread that runs meanwhile sends on its own, unless it was started with a copy
        of the block's context. Raises BatchError, with what failed, if some messages could not be sent; all others are.
        """
        return self.publisher().batch()

    # -- results -----------------------------------------------------------------------------------

    @property
    def backend(self) -> Any:
        """The result back end; one for each thread, unless it says that threads may share it."""
        return self._results.get()

    def _get_backend(self) -> Any:
        """Make it; a subclass may make another."""
        from pyqs_celery.backends import backend_for

        return backend_for(self)

    @property
    def AsyncResult(self) -> Any:  # noqa: N802 - Celery's name
        """The result class, bound to this app."""
        return self._results.bound("AsyncResult")

    @property
    def ResultSet(self) -> Any:  # noqa: N802 - Celery's name
        """The class of several results, bound to this app."""
        return self._results.bound("ResultSet")

    @property
    def GroupResult(self) -> Any:  # noqa: N802 - Celery's name
        """The class of a group's results, bound to this app."""
        return self._results.bound("GroupResult")

    def result_from_tuple(self, found: Any) -> Any:
        """A result of this app from its tuple."""
        from pyqs_celery.result import result_from_tuple

        return result_from_tuple(found, self)

    def route_of(self, name: str, args: Any, kwargs: Any, options: Mapping[str, Any]) -> str:
        """The queue to which a call of this task would go."""
        from pyqs_celery.app import sending

        found = sending.route(self, name, args, kwargs, options, self._tasks.get(name))
        return sending.destination(self, found)[0]

    def signature(self, *args: Any, **kwargs: Any) -> Any:
        """A signature bound to this app."""
        from pyqs_celery.canvas import signature

        kwargs["app"] = self
        return signature(*args, **kwargs)

    # -- workers -----------------------------------------------------------------------------------

    @property
    def current_task(self) -> Any:
        """The task that is running, or None."""
        return _state.get_current_task()

    def start(self, argv: list[str] | None = None) -> None:
        """Run the command line with this app."""
        from pyqs_celery.bin import main

        main(argv if argv is not None else sys.argv[1:], app=self)

    def worker_main(self, argv: list[str] | None = None) -> None:
        """Run ``worker``; the word must be in ``argv``."""
        arguments = sys.argv if argv is None else argv
        if "worker" not in arguments:
            raise ValueError("The worker sub-command must be specified in argv. Use app.start() for other commands.")
        self.start(argv)


def _same_function(task: Any, fun: Any) -> bool:
    """True if a task was made of this function, or of the one it becomes when its module is loaded again."""
    import inspect

    made_of = inspect.unwrap(getattr(task, "__wrapped__", task))
    made_of = getattr(made_of, "__func__", made_of)
    names = ("__module__", "__qualname__")
    return made_of is fun or all(getattr(made_of, name, None) == getattr(fun, name, 0) for name in names)


def _place(task: Any) -> str:
    import inspect

    return f"{task.__module__}.{getattr(inspect.unwrap(getattr(task, '__wrapped__', task)), '__qualname__', task.name)}"


def loader_for(app: Celery, wanted: Any) -> loader.Loader:
    """The loader of an app. Celery's own loaders by name (``app``, ``default``, ``celery.loaders...``) are ours."""
    if isinstance(wanted, str):
        if wanted in ("app", "default") or wanted.startswith("celery.loaders."):
            return loader.Loader(app)
        wanted = symbol_by_name(wanted)
    made: loader.Loader = wanted(app)
    return made


def maybe_registry(tasks: Any, kind: Any) -> Any:
    """A registry from a registry, a mapping or nothing."""
    kind = symbol_by_name(kind)
    return tasks if isinstance(tasks, kind) else kind(tasks or {})
