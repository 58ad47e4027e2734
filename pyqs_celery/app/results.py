"""An application's result back ends and its result classes."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery

RESULT_SETTINGS = ("result_", "redis_", "database_", "s3_", "cache_", "dynamodb_", "accept_content")
"""A change of one of these makes a new back end at the next use."""


class Results:
    """Makes back ends when they are first used, again after a fork, and one a thread where the store wants that."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._bound: dict[str, Any] = {}
        self.forget()

    def forget(self) -> None:
        """Make new ones from now on."""
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._shared: Any = None
        self._local = threading.local()

    def close(self) -> None:
        """Close the back end of this thread, or that of all threads, if one was made in this process."""
        found = self._shared or getattr(self._local, "backend", None)
        if found is not None and self._pid == os.getpid() and hasattr(found, "close"):
            found.close()

    def get(self) -> Any:
        """The back end of this thread."""
        if self._pid != os.getpid():  # connections of the parent process are not ours
            self.forget()
        found = self._shared or getattr(self._local, "backend", None)
        if found is None:
            with self._lock:
                found = self._shared or self._app._get_backend()
                if getattr(found, "thread_safe", False) or self._app.conf.get("result_backend_thread_safe"):
                    self._shared = found
                else:
                    self._local.backend = found
        return found

    def bound(self, name: str) -> Any:
        """One of the classes of ``pyqs_celery.result``, whose objects belong to this app."""
        if name not in self._bound:
            from pyqs_celery import result

            base = getattr(result, name)
            self._bound[name] = _bound_class(base, self._app)
        return self._bound[name]


def _bound_class(base: Any, app: Celery) -> Any:
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - the constructor of the class made below
        kwargs["app"] = kwargs.get("app") or app
        base.__init__(self, *args, **kwargs)

    def __reduce__(self: Any) -> Any:  # noqa: N807 - it pickles as the class that everybody can import
        return base, base.__reduce__(self)[1]

    members = {"__init__": __init__, "__module__": base.__module__, "_bound_app": app, "__doc__": base.__doc__}
    if "__reduce__" in base.__dict__:
        members["__reduce__"] = __reduce__
    return type(base.__name__, (base,), members)
