"""``celery.backends.base``: the names that stores of others derive from and catch."""

from __future__ import annotations

from pyqs_celery._state import get_current_task
from pyqs_celery.backends.backend import Backend, unpickle_backend
from pyqs_celery.backends.backend import Backend as BaseBackend
from pyqs_celery.backends.backend import Backend as BaseDictBackend
from pyqs_celery.backends.disabled import DisabledBackend
from pyqs_celery.backends.keyvalue import KeyValueStoreBackend
from pyqs_celery.backends.keyvalue import KeyValueStoreBackend as BaseKeyValueStoreBackend
from pyqs_celery.backends.waiting import SyncBackendMixin
from pyqs_celery.exceptions import BackendGetMetaError, BackendStoreError

__all__ = (
    "Backend",
    "BackendGetMetaError",
    "BackendStoreError",
    "BaseBackend",
    "BaseDictBackend",
    "BaseKeyValueStoreBackend",
    "DisabledBackend",
    "KeyValueStoreBackend",
    "SyncBackendMixin",
    "get_current_task",
    "unpickle_backend",
)
