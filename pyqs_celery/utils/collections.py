"""``celery.utils.collections``: the one function of it that other packages import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def force_mapping(m: Any) -> Any:
    """``m`` itself if it is a mapping, else its attributes as one."""
    return m if isinstance(m, Mapping) else {key: getattr(m, key) for key in dir(m) if not key.startswith("_")}
