"""Where settings come from: a module, an object, a dictionary, Django's settings, or an environment variable."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

from pyqs_celery.exceptions import ImproperlyConfigured
from pyqs_celery.utils.imports import cwd_in_path, symbol_by_name

DEFAULT_MODULE = "celeryconfig"


def read(source: Any, namespace: str | None = None) -> Mapping[str, Any]:
    """The keys and values of a configuration source: dotted name, ``module:attribute``, object or mapping.

    Raises ImproperlyConfigured if a name does not import.
    """
    if isinstance(source, str):
        source = _named(source)
    if isinstance(source, Mapping):
        return source
    keys = [key for key in dir(source) if not key.startswith("_")]
    if namespace:
        keys = [key for key in keys if key.startswith((namespace, "BROKER_", "CELERY")) or key == "TIME_ZONE"]
    return {key: getattr(source, key) for key in keys if not callable(getattr(source, key, None)) or _is_wanted(key)}


def _is_wanted(key: str) -> bool:
    """Callables are settings when their name is one (routers, annotations), and helpers otherwise."""
    from pyqs_celery.app.config import canonical

    return canonical(key) is not None


def _named(name: str) -> Any:
    try:
        with cwd_in_path():
            if ":" in name:
                return symbol_by_name(name)
            try:
                return importlib.import_module(name)
            except ModuleNotFoundError as exc:
                if exc.name is None or not (name == exc.name or name.startswith(exc.name + ".")):
                    raise
                return symbol_by_name(name)
    except (ImportError, AttributeError) as exc:
        raise ImproperlyConfigured(f"the configuration {name!r} cannot be imported: {exc}") from exc


def default_source(environ: Mapping[str, str] = os.environ) -> Mapping[str, Any]:
    """What an app without configuration reads: the module CELERY_CONFIG_MODULE names, or celeryconfig if there is one."""
    name = environ.get("CELERY_CONFIG_MODULE")
    if name:
        return read(name)
    try:
        with cwd_in_path():
            return read(importlib.import_module(DEFAULT_MODULE))
    except ModuleNotFoundError as exc:
        if exc.name != DEFAULT_MODULE:
            raise
        return {}
