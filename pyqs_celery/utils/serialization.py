"""``celery.utils.serialization``: exceptions as data and back, and base64 as text."""

from __future__ import annotations

import base64
import pickle
from collections.abc import Callable, Iterable
from typing import Any

__all__ = (
    "UnpickleableExceptionWrapper",
    "b64decode",
    "b64encode",
    "create_exception_cls",
    "ensure_serializable",
    "find_pickleable_exception",
    "get_pickleable_exception",
    "get_pickled_exception",
    "strtobool",
    "subclass_exception",
)

_NO_STANDIN = (Exception, BaseException, object)
"""Bases that tell a reader nothing of what was raised."""


def b64encode(s: bytes | str) -> str:
    """Bytes, or text as UTF-8, as base64 text."""
    return base64.b64encode(s.encode("utf-8") if isinstance(s, str) else s).decode("ascii")


def b64decode(s: bytes | str) -> bytes:
    """The inverse."""
    return base64.b64decode(s.encode("ascii") if isinstance(s, str) else s)


def subclass_exception(name: str, parent: type[BaseException], module: str) -> type[BaseException]:
    """A new exception class."""
    return type(name, (parent,), {"__module__": module})


def create_exception_cls(name: str, module: str, parent: type[BaseException] | None = None) -> type[BaseException]:
    """A class that stands for an exception this process does not know; it shows its name and arguments."""
    return subclass_exception(name, parent or Exception, module)


def ensure_serializable(items: Iterable[Any], encoder: Callable[[Any], Any]) -> tuple[Any, ...]:
    """The items, each that ``encoder`` does not take replaced by its ``repr``."""
    safe = []
    for item in items:
        try:
            encoder(item)
            safe.append(item)
        except Exception:  # noqa: BLE001 - a serializer may raise anything for what it does not know
            safe.append(_shown(item))
    return tuple(safe)


def _shown(item: Any) -> str:
    try:
        return repr(item)
    except Exception:  # noqa: BLE001 - a value of the user's may fail to show itself
        return f"<{type(item).__name__}, which cannot be shown>"


def find_pickleable_exception(
    exc: BaseException, loads: Callable[[bytes], Any] = pickle.loads, dumps: Callable[[Any], bytes] = pickle.dumps
) -> BaseException | None:
    """The exception as the nearest of its base classes that pickles; None if there is none that says anything."""
    arguments = getattr(exc, "args", ())
    for base in type(exc).__mro__:
        if base in _NO_STANDIN or not issubclass(base, BaseException):
            return None
        try:
            found = base(*arguments)
            loads(dumps(found))
        except Exception:  # noqa: BLE001, S112 - constructors and reducers of the user's may raise anything
            continue
        return found
    return None


class UnpickleableExceptionWrapper(Exception):
    """Stands in a pickle for an exception that does not pickle: its module, class name and arguments.

    The arguments that do not pickle are their ``repr``. Celery's class of this name has the same arguments.
    """

    def __init__(self, exc_module: str, exc_cls_name: str, exc_args: Any, text: str | None = None) -> None:
        safe = ensure_serializable(exc_args, lambda item: pickle.loads(pickle.dumps(item)))  # noqa: S301 - its own bytes
        self.exc_module = exc_module
        self.exc_cls_name = exc_cls_name
        self.exc_args = safe
        self.text = text
        super().__init__(exc_module, exc_cls_name, safe, text)

    @classmethod
    def from_exception(cls, exc: BaseException) -> UnpickleableExceptionWrapper:
        """The stand-in for one."""
        return cls(type(exc).__module__, type(exc).__name__, getattr(exc, "args", []), _shown(exc))

    def restore(self) -> BaseException:
        """An exception of the same name and arguments."""
        return create_exception_cls(self.exc_cls_name, self.exc_module)(*self.exc_args)

    def __str__(self) -> str:
        return self.text or ""


def get_pickleable_exception(exc: BaseException) -> BaseException:
    """The exception itself if it pickles, else what can stand for it."""
    try:
        pickle.loads(pickle.dumps(exc))  # noqa: S301 - what this process has just written
    except Exception:  # noqa: BLE001 - a class of the user's may raise anything
        return find_pickleable_exception(exc) or UnpickleableExceptionWrapper.from_exception(exc)
    return exc


def get_pickled_exception(exc: BaseException) -> BaseException:
    """What a stand-in stands for; any other exception as it is."""
    return exc.restore() if isinstance(exc, UnpickleableExceptionWrapper) else exc


def strtobool(term: str | bool) -> bool:
    """``yes``, ``true``, ``on``, ``1`` and their opposites. Raises TypeError for anything else."""
    if isinstance(term, bool):
        return term
    known = {"false": False, "no": False, "0": False, "off": False, "true": True, "yes": True, "1": True, "on": True}
    found = known.get(str(term).lower())
    if found is None:
        raise TypeError(f"Cannot coerce {term!r} to type bool")
    return found
