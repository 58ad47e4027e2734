"""Small helpers; several carry Celery's names, since other packages import them from ``celery.utils``."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from pyqs_celery.utils.ids import uuid

__all__ = ("cached_property", "gen_unique_id", "get_full_cls_name", "nodesplit", "uuid")

gen_unique_id = uuid


def get_full_cls_name(klass: Any) -> str:
    """``module.Class``."""
    return f"{klass.__module__}.{klass.__qualname__}"


def nodesplit(name: str) -> tuple[str | None, str]:
    """``("worker", "host")`` of ``worker@host``; (None, host) where there is no @."""
    first, at, host = name.partition("@")
    return (first, host) if at else (None, first)
