"""Celery-compatible tasks on Amazon SQS: ``from pyqs_celery import Celery, shared_task``.

Names are imported when they are first used, so that a module of tasks costs its process neither boto3 nor a broker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyqs_celery.version import VERSION, __version__

if TYPE_CHECKING:
    from pyqs_celery import events, exceptions, result, signals, states
    from pyqs_celery._state import current_app, current_task
    from pyqs_celery.alias import install_as_celery
    from pyqs_celery.app import Celery, Task, app_or_default, shared_task
    from pyqs_celery.canvas.chain import chain
    from pyqs_celery.canvas.chord import chord
    from pyqs_celery.canvas.group import group
    from pyqs_celery.canvas.maps import chunks, xmap, xstarmap
    from pyqs_celery.canvas.signature import Signature, maybe_signature, signature
    from pyqs_celery.canvas.signature import signature as subtask
    from pyqs_celery.decorator import task
    from pyqs_celery.utils.ids import uuid


__all__ = (
    "VERSION",
    "Celery",
    "Signature",
    "Task",
    "__version__",
    "app_or_default",
    "chain",
    "chord",
    "chunks",
    "current_app",
    "current_task",
    "events",
    "exceptions",
    "group",
    "install_as_celery",
    "maybe_signature",
    "result",
    "shared_task",
    "signals",
    "signature",
    "states",
    "subtask",
    "task",
    "uuid",
    "xmap",
    "xstarmap",
)

_HOME = {
    "Celery": "pyqs_celery.app",
    "Task": "pyqs_celery.app",
    "app_or_default": "pyqs_celery.app",
    "shared_task": "pyqs_celery.app.shared",
    "current_app": "pyqs_celery._state",
    "current_task": "pyqs_celery._state",
    "Signature": "pyqs_celery.canvas",
    "chain": "pyqs_celery.canvas",
    "chord": "pyqs_celery.canvas",
    "chunks": "pyqs_celery.canvas",
    "group": "pyqs_celery.canvas",
    "xmap": "pyqs_celery.canvas",
    "xstarmap": "pyqs_celery.canvas",
    "maybe_signature": "pyqs_celery.canvas",
    "signature": "pyqs_celery.canvas",
    "subtask": "pyqs_celery.canvas",
    "task": "pyqs_celery.decorator",
    "uuid": "pyqs_celery.utils.ids",
    "install_as_celery": "pyqs_celery.alias",
    "bugreport": "pyqs_celery.app",
    "maybe_patch_concurrency": "pyqs_celery.app",
}
_MODULES = frozenset(
    "beat bootsteps canvas events exceptions platforms registry result schedules signals states".split()
)


def __getattr__(name: str) -> Any:
    from pyqs_celery.utils.lazy import first_use

    if name in _MODULES:
        import importlib

        return importlib.import_module(f"pyqs_celery.{name}")
    return first_use(globals(), _HOME, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
