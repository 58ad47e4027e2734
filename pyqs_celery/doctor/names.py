"""Which of Celery's dotted names this package has: decided here for the doctor and for the swap of imports."""

from __future__ import annotations

import importlib
import re
from functools import cache
from types import ModuleType

from pyqs_celery.alias import MODULES

TOP = "celery"
IMPORTERS = frozenset({"import_module", "__import__", "find_spec", "importorskip"})
"""Functions whose first argument, a text, is the name of a module."""
PATCHERS = frozenset(
    {"patch", "multiple", "dict", "setattr", "delattr", "import_string", "symbol_by_name", "resolve_name"}
)
"""Functions whose first argument, a text, is the name of anything."""
_PATH = re.compile(r"celery(\.[^\W\d]\w*)*(:[^\W\d]\w*(\.[^\W\d]\w*)*)?")
_CLASS = re.compile(r"celery[.:](\w+[.:])*[A-Z]\w*[a-z]\w*")


def our_module(name: str) -> str | None:
    """Our module for one of Celery's by name, None if we have none."""
    return "pyqs_celery" if name == TOP else MODULES.get(name)


@cache
def has(module: str, attribute: str) -> bool:
    """True if ``from module import attribute`` means the same with our module in place of Celery's ``module``.

    Modules of ours that only bear the name of one of Celery's (``local``, ``events``, ``worker.consumer``) do not count,
    whether or not something has imported them already.
    """
    ours = our_module(module)
    if ours is None:
        return False
    if attribute == "*" or MODULES.get(f"{module}.{attribute}") == f"{ours}.{attribute}":
        return True
    try:
        found = getattr(importlib.import_module(ours), attribute)
    except AttributeError:
        return False
    except ImportError:  # a part that needs something not installed here: the name may well be there
        return True
    # by its type: isinstance() would have a proxy make the application it stands for
    return not issubclass(type(found), ModuleType)


def our_path(path: str) -> str | None:
    """Our name for ``celery.module.Thing`` or ``celery.module:Thing`` in a text; None if it is no such name, or not here.

    Bare names of modules are left alone: most are names of loggers too. Of the top module only classes are taken: the
    others (``celery.task``, ``celery.group``) are loggers and names of Celery's own tasks.
    """
    module, rest = _split(path)
    if not rest or (module == TOP and not rest[0][0].isupper()):
        return None
    return our_target(path)


def our_target(path: str) -> str | None:
    """Our name for what is surely a dotted name of Celery's, a module too; None if we have no such thing."""
    module, rest = _split(path)
    ours = our_module(module)
    if ours is None or (rest and not has(module, rest[0])):
        return None
    return ours + path[len(module) :]


def is_celerys(path: str) -> bool:
    """True for ``celery`` and dotted names below it."""
    return _PATH.fullmatch(path) is not None


def is_missing_class(path: str) -> bool:
    """True for a text that by its looks names a class of Celery's which is not here; loggers and queues are lower case."""
    return _CLASS.fullmatch(path) is not None and our_target(path) is None


def _split(path: str) -> tuple[str, list[str]]:
    """(the longest module in a dotted name, what is behind it); an empty module for what is no name of Celery's."""
    if not is_celerys(path):
        return "", []
    parts = path.replace(":", ".").split(".")
    # what stands before a colon is a module by its spelling
    most = len(path.split(":", maxsplit=1)[0].split(".")) if ":" in path else len(parts)
    for end in range(most, 0, -1):
        module = ".".join(parts[:end])
        if our_module(module) is not None and (":" not in path or end == most):
            return module, parts[end:]
    return "", []
