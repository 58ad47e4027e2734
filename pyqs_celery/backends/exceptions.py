"""Exceptions as result documents hold them, and back.

A document names the class by module and qualified name, with the arguments: ``{"exc_type", "exc_message", "exc_module"}``.
Classes of ours are named as Celery's, so that either side rebuilds the class that it knows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from pyqs_celery.exceptions import SecurityError
from pyqs_celery.utils.serialization import create_exception_cls, ensure_serializable
from pyqs_celery.wire.pickling import celery_module

_RENAMED = {"celery": "pyqs_celery", "billiard": "pyqs_celery"}


def to_document(exc: BaseException, encode: Callable[[Any], Any]) -> dict[str, Any]:
    """The document of an exception; arguments that ``encode`` does not take are their ``repr``."""
    cls = type(exc)
    return {
        "exc_type": getattr(cls, "__qualname__", cls.__name__),
        "exc_message": ensure_serializable(exc.args, encode),
        "exc_module": celery_module(cls) or cls.__module__,
    }


def from_document(document: Any) -> BaseException | None:
    """The exception of a document; one of a made-up class where this process has not loaded the class's module.

    Nothing is imported for a document, and what it names must be an exception class: raises SecurityError otherwise,
    ValueError or TypeError for what is no such document.
    """
    if not document:
        return None
    if not isinstance(document, Mapping):
        raise TypeError(f"a stored exception must be a document with its type and arguments, not {document!r:.200}")
    name, module = document.get("exc_type"), document.get("exc_module")
    if not isinstance(name, str):
        raise ValueError(f"a stored exception must name its type, not {document!r:.200}")
    arguments = document.get("exc_message", "")
    cls = _known_class(name, module) if module is not None else None
    if cls is None:
        cls = create_exception_cls(name, __name__ if module is None else "celery.exceptions")
    if not isinstance(cls, type) or not issubclass(cls, BaseException):
        shown = name if module is None else f"{module}.{name}"
        raise SecurityError(f"Expected an exception class, got {shown} with payload {arguments!r:.200}")
    try:
        return cls(*arguments) if isinstance(arguments, (tuple, list)) else cls(arguments)
    except Exception:  # noqa: BLE001 - a class of the user's may want other arguments than it shows
        return Exception(f"{cls}({arguments})")


def _known_class(name: str, module: str) -> Any:
    """What a loaded module calls by this name; Celery's modules are ours."""
    first, _, rest = str(module).partition(".")
    ours = f"{_RENAMED[first]}.{rest}" if first in _RENAMED and rest else None
    for place in (ours, module):
        found: Any = sys.modules.get(place) if place else None
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is not None:
            return found
    return None
