"""Which of Celery's dotted names this package has: decided here for the doctor and for the swap of imports."""

from __future__ import annotations

import importlib
from functools import cache

from pyqs_celery.alias import MODULES

TOP = "celery"
IMPORTERS = frozenset({"import_module", "__import__", "find_spec", "importorskip"})
"""Functions whose first argument, a text, is the name of a module."""


def our_module(name: str) -> str | None:
    """Our module for one of Celery's by name, None if we have none."""
    return "pyqs_celery" if name == TOP else MODULES.get(name)


@cache
def has(module: str, attribute: str) -> bool:
    """True if our module for Celery's ``module`` has ``attribute``, or a module of that name below it."""
    ours = our_module(module)
    if ours is None:
        return False
    if attribute == "*" or f"{module}.{attribute}" in MODULES:
        return True
    try:
        return hasattr(importlib.import_module(ours), attribute)
    except ImportError:  # a part that needs something not installed here: the name may well be there
        return True


def our_path(path: str) -> str | None:
    """Our name for ``celery.module.Thing`` or ``celery.module:Thing``; None if it is no such name, or not here.

    The bare name of a module is left alone: most are names of loggers too.
    """
    module, colon, attribute = path.partition(":")
    if colon:
        ours = our_module(module)
        return f"{ours}:{attribute}" if ours and module != TOP and has(module, attribute.split(".")[0]) else None
    parts = path.split(".")
    if parts[0] != TOP or len(parts) < 3 or not all(part.isidentifier() for part in parts):
        return None
    if path in MODULES:
        return None
    for end in range(len(parts) - 1, 1, -1):
        module = ".".join(parts[:end])
        ours = MODULES.get(module)
        if ours is not None:
            return ".".join([ours, *parts[end:]]) if has(module, parts[end]) else None
    return None
