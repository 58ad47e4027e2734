"""What result back ends have in common, and the names that other packages import from ``celery.backends.base``."""

from __future__ import annotations

from pyqs_celery._state import get_current_task
from pyqs_celery.backends.disabled import DisabledBackend
from pyqs_celery.exceptions import BackendGetMetaError, BackendStoreError

__all__ = ("BackendGetMetaError", "BackendStoreError", "DisabledBackend", "get_current_task")
