"""``celery.utils.collections``: the one function of it that other packages import; and a small one of our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def force_mapping(m: Any) -> Any:
    """``m`` itself if it is a mapping, else its attributes as one."""
    return m if isinstance(m, Mapping) else {key: getattr(m, key) for key in dir(m) if not key.startswith("_")}


def listed(value: Any) -> list[Any]:
    """One or several of something as a list; nothing is none, and a signature is one."""
    if not value:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
