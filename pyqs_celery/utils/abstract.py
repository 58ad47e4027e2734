"""``celery.utils.abstract``: classes for ``isinstance``."""

from __future__ import annotations

from abc import ABC
from typing import Any


class CallableTask(ABC):  # noqa: B024 - it is asked by isinstance, not derived from
    """Anything with the methods of a task."""

    @classmethod
    def __subclasshook__(cls, other: Any) -> Any:
        names = ("delay", "apply_async", "apply", "retry", "signature", "__call__")
        return all(hasattr(other, name) for name in names) or NotImplemented
