"""Names that a module gives away and imports only when they are first asked for (PEP 562)."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any


def first_use(namespace: dict[str, Any], homes: Mapping[str, str], name: str) -> Any:
    """The value of ``name``, from the module that ``homes`` says it is in; it stays in ``namespace``, a module's globals.

    For a module's ``__getattr__``. Raises AttributeError for a name without a home.
    """
    home = homes.get(name)
    if home is None:
        raise AttributeError(f"module {namespace['__name__']!r} has no attribute {name!r}", name=name)
    value = namespace[name] = getattr(importlib.import_module(home), name)
    return value
