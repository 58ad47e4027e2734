"""Objects by their dotted names."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def symbol_by_name(name: Any, default: Any = None) -> Any:
    """The object named ``package.module.Name`` or ``package.module:Name``; what is no text is given back as it is.

    Raises ImportError or AttributeError, unless ``default`` is given.
    """
    if not isinstance(name, str):
        return name
    module, colon, attribute = name.partition(":")
    if not colon:
        module, _, attribute = name.rpartition(".")
    try:
        found: Any = importlib.import_module(module or attribute)
        for part in attribute.split(".") if module and attribute else ():
            found = getattr(found, part)
    except (ImportError, AttributeError):
        if default is not None:
            return default
        raise
    return found


def qualname(value: Any) -> str:
    """``module.Name`` of a class or an object's class."""
    kind = value if isinstance(value, type) else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def instantiate(name: Any, *args: Any, **kwargs: Any) -> Any:
    """Make an object of the class named."""
    return symbol_by_name(name)(*args, **kwargs)


@contextmanager
def cwd_in_path() -> Iterator[None]:
    """Import from the current folder too, as Celery's command line does; it stays in the path while needed."""
    cwd = os.getcwd()  # noqa: PTH109 - pathlib would be imported for this alone
    if cwd in sys.path:
        yield
        return
    sys.path.insert(0, cwd)
    try:
        yield
    finally:
        if cwd in sys.path:
            sys.path.remove(cwd)
