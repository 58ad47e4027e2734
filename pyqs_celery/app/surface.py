"""What an application object offers besides settings, tasks and sending: Celery's names for it, in one place.

https://docs.celeryq.dev/en/stable/reference/celery.html
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from pyqs_celery import _state
from pyqs_celery.utils import ids
from pyqs_celery.utils.dispatch import Signal
from pyqs_celery.utils.imports import symbol_by_name

if TYPE_CHECKING:
    from pyqs_celery.app.amqp import Amqp
    from pyqs_celery.app.base import Celery
    from pyqs_celery.app.control import Control
    from pyqs_celery.bootsteps import Steps


class Surface:
    """The mixin of ``Celery`` that holds them."""

    log_cls: Any = "pyqs_celery.app.log:Logging"
    control_cls: Any = "pyqs_celery.app.control:Control"
    amqp_cls: Any = "pyqs_celery.app.amqp:Amqp"
    conf: Any

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}
        self.steps: dict[str, set[Any]] = {"worker": set(), "consumer": set()}
        self.worker_steps: Steps | None = None
        self.user_options: dict[str, set[Any]] = {"preload": set(), "worker": set(), "beat": set()}
        self.on_configure = Signal("app.on_configure")
        self.on_after_configure = Signal("app.on_after_configure", {"source"})
        self.on_after_finalize = Signal("app.on_after_finalize")
        self.on_after_fork = Signal("app.on_after_fork")

    def _choose_classes(self, **classes: Any) -> None:
        """Take the classes that the constructor was given in place of the usual ones."""
        for name, cls in classes.items():
            if cls is not None:
                setattr(self, f"{name}_cls", cls)

    def _make(self, name: str, cls: Any) -> Any:
        if name not in self._made:
            self._made[name] = symbol_by_name(cls)(self)
        return self._made[name]

    @property
    def control(self) -> Control:
        """Remote control, as far as SQS allows."""
        return self._make("control", self.control_cls)  # type: ignore[no-any-return]

    @property
    def amqp(self) -> Amqp:
        """The declared queues and routes."""
        return self._make("amqp", self.amqp_cls)  # type: ignore[no-any-return]

    @property
    def log(self) -> Any:
        """The application's logging."""
        return self._make("log", self.log_cls)

    # -- connections -------------------------------------------------------------------------------

    def connection(self, url: str | None = None, **options: Any) -> Any:
        """A ``kombu.Connection`` to the broker, for code that uses kombu itself; nothing of ours does."""
        from kombu.connection import Connection

        options.setdefault("transport_options", dict(self.conf.broker_transport_options or {}))
        return Connection(url or self.conf.broker_write_url or self.conf.broker_url or "sqs://", **options)

    connection_for_write = connection

    def connection_for_read(self, url: str | None = None, **options: Any) -> Any:
        """The same with ``broker_read_url``."""
        return self.connection(url or self.conf.broker_read_url, **options)

    @contextmanager
    def connection_or_acquire(self, connection: Any = None, *_: Any, **__: Any) -> Iterator[Any]:
        """``connection``, or a new one that is closed at the end of the block."""
        if connection is not None:
            yield connection
            return
        with self.connection() as made:
            yield made

    default_connection = connection_or_acquire

    @contextmanager
    def producer_or_acquire(self, producer: Any = None) -> Iterator[Any]:
        """``producer``, or a new one of kombu's."""
        if producer is not None:
            yield producer
            return
        with self.connection() as made:
            yield made.Producer()

    default_producer = producer_or_acquire

    @property
    def pool(self) -> Any:
        """Kombu's pool of connections to the broker."""
        from kombu.pools import connections

        return connections[self.connection()]

    # -- running tasks -----------------------------------------------------------------------------

    @property
    def current_worker_task(self) -> Any:
        """The task that a worker runs in this context; None outside of one, and for a task that was called directly."""
        running = [task for task in _state._task_stack.stack if not task.request.called_directly]
        return running[-1] if running else None

    # -- workers and beat --------------------------------------------------------------------------

    @property
    def Worker(self) -> Any:  # noqa: N802 - Celery's name
        """``app.Worker(queues=..., concurrency=...)``: a worker to start from a program."""
        from pyqs_celery.bin.controller import WorkController

        return partial(WorkController, app=cast("Celery", self))

    WorkController = Worker

    @property
    def Beat(self) -> Any:  # noqa: N802 - Celery's name
        """``app.Beat(scheduler=..., schedule=...)``: a beat to run from a program."""
        from pyqs_celery.beat.service import Beat

        return partial(Beat, app=self)

    def add_periodic_task(
        self, schedule: Any, sig: Any, args: Any = (), kwargs: Any = (), name: str | None = None, **opts: Any
    ) -> str:
        """Have beat send ``sig`` by ``schedule``; the entry's name, which is ``name`` or what ``sig`` looks like."""
        call = sig.clone(args, dict(kwargs or {})) if hasattr(sig, "clone") else sig.s(*args, **dict(kwargs or {}))
        key = name or repr(call)
        self.conf.beat_schedule[key] = {
            "schedule": schedule,
            "task": call.name,
            "args": call.args,
            "kwargs": call.kwargs,
            "options": {**call.options, **opts},
        }
        return key

    # -- small things ------------------------------------------------------------------------------

    def uuid(self) -> str:
        """A new task id."""
        return ids.uuid()

    @property
    def oid(self) -> str:
        """A name of this process of the application."""
        import uuid

        return str(uuid.uuid3(uuid.NAMESPACE_OID, f"{uuid.getnode():x}-{os.getpid():x}-{id(self):x}"))

    @property
    def thread_oid(self) -> str:
        """A name of this thread of it."""
        import uuid

        return str(uuid.uuid3(uuid.NAMESPACE_OID, f"{self.oid}-{threading.get_ident():x}"))

    def either(self, default_key: str, *defaults: Any) -> Any:
        """The first of ``defaults`` that is not None, else a setting."""
        return next((value for value in defaults if value is not None), self.conf.get(default_key))

    def select_queues(self, queues: Any = None) -> None:
        """Serve only these of the declared queues."""
        self.conf.task_queues = list(queues or ())

    def setup_security(
        self,
        allowed_serializers: Any = None,
        key: Any = None,
        key_password: Any = None,
        cert: Any = None,
        store: Any = None,
        digest: str | None = None,
        serializer: str = "json",
    ) -> None:
        """Sign and verify messages with the serializer ``auth``; see ``pyqs_celery.security``. Raises ImproperlyConfigured."""
        from pyqs_celery.security import setup_security

        setup_security(allowed_serializers, key, key_password, cert, store, digest, serializer, app=self)

    def bugreport(self) -> str:
        """Versions and settings, secrets left out, for a report."""
        import platform
        from importlib.metadata import version

        from pyqs_celery.version import __version__

        versions = f"software -> pyqs-celery:{__version__} kombu:{version('kombu')} py:{platform.python_version()}"
        system = (
            f"platform -> system:{platform.system()} arch:{platform.machine()} imp:{platform.python_implementation()}"
        )
        transport = f"transport -> sqs (boto3 {version('boto3')})"
        return "\n".join([versions, system, transport, "", str(self.conf.humanize()), ""])

    def prepare_config(self, c: Any) -> Any:
        """Called with the configuration once it is read, for subclasses; gives the configuration to use."""
        return c

    def config_from_cmdline(self, argv: Any, namespace: str = "celery") -> None:
        """Take ``key=value`` arguments as settings."""
        from pyqs_celery.app.config import from_command_line

        self.conf.update(from_command_line(argv))
