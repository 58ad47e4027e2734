"""``celery.loaders.base``: the class that loaders of others derive from."""

from __future__ import annotations

from pyqs_celery.app.loader import Loader as BaseLoader
from pyqs_celery.app.loader import find_related_module

__all__ = ("BaseLoader", "find_related_module")
