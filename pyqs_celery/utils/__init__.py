"""Small helpers; several carry Celery's names, since other packages import them from ``celery.utils``."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from pyqs_celery.utils.lazy import first_use

if TYPE_CHECKING:
    from pyqs_celery.utils.ids import gen_unique_id, uuid

__all__ = ("cached_property", "gen_unique_id", "get_full_cls_name", "nodesplit", "uuid")

_HOME = dict.fromkeys(("gen_unique_id", "uuid"), "pyqs_celery.utils.ids")

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        return first_use(globals(), _HOME, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def get_full_cls_name(klass: Any) -> str:
    """``module.Class``."""
    return f"{klass.__module__}.{klass.__qualname__}"


def nodesplit(name: str) -> tuple[str | None, str]:
    """``("worker", "host")`` of ``worker@host``; (None, host) where there is no @."""
    first, at, host = name.partition("@")
    return (first, host) if at else (None, first)
