"""Result back ends, by the setting ``result_backend``: a URL, a name, a dotted class or a class.

Each is imported when it is asked for; what it needs is an extra, and its absence is told with the extra's name. Packages
add more by the entry-point group ``celery.result_backends``.
https://docs.celeryq.dev/en/stable/userguide/configuration.html#result-backend
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from pyqs_celery.exceptions import ImproperlyConfigured
from pyqs_celery.utils.imports import symbol_by_name

__all__ = ("ALIASES", "backend_for", "by_name", "by_url")

_OFF = (None, "", "disabled", "disabled://")
ALIASES = {
    "disabled": "pyqs_celery.backends.disabled:DisabledBackend",
    "redis": "pyqs_celery.backends.redis:RedisBackend",
    "rediss": "pyqs_celery.backends.redis:RedisBackend",
    "sentinel": "pyqs_celery.backends.sentinel:SentinelBackend",
    "dynamodb": "pyqs_celery.backends.dynamodb:DynamoDBBackend",
    "s3": "pyqs_celery.backends.s3:S3Backend",
    "db": "pyqs_celery.backends.database:DatabaseBackend",
    "database": "pyqs_celery.backends.database:DatabaseBackend",
    "file": "pyqs_celery.backends.filesystem:FilesystemBackend",
    "cache": "pyqs_celery.backends.cache:CacheBackend",
    "django-db": "pyqs_celery.backends.django:DatabaseBackend",
    "cache+memory": "pyqs_celery.backends.memory:MemoryBackend",
}
"""Names and URL schemes of the back ends that are part of this package."""
_REFUSED = {
    "rpc": "it would need a reply queue on SQS for every client",
    "amqp": "it keeps each result in a queue of its own, which Celery itself has given up",
}
FOR_CELERY = (
    "it is made for Celery: call pyqs_celery.install_as_celery() before anything imports celery (for Django at the top of "
    "the settings), so that it is built on pyqs-celery; see docs/integrations.rst"
)
INSTEAD = "use redis://, dynamodb://, s3://, db+<SQLAlchemy's URL>, cache+memcached:// or file://"


def backend_for(app: Any) -> Any:
    """The back end of an app. Raises ImproperlyConfigured for one that is not known, refused, or lacks its extra."""
    wanted = app.conf.result_backend
    if isinstance(wanted, str) and wanted in _OFF:
        wanted = None
    cls, url = by_url(wanted, app.loader)
    return cls(app=app, url=url)


def by_url(backend: Any = None, loader: Any = None) -> tuple[Any, str | None]:
    """The class and the URL that a ``result_backend`` means."""
    if backend is None:
        return symbol_by_name(ALIASES["disabled"]), None
    if not isinstance(backend, str):
        return backend, None
    if "://" not in backend:
        return by_name(backend, loader), None
    scheme = backend.partition("://")[0]
    if scheme in ALIASES:
        return by_name(scheme, loader), backend
    name, _, rest = backend.partition("+") if "+" in scheme else (scheme, "", backend)
    return by_name(name, loader), rest


def by_name(backend: str | None = None, loader: Any = None) -> Any:
    """The class of a name, an entry point or a dotted path. Raises ImproperlyConfigured."""
    backend = backend or "disabled"
    if backend in _REFUSED:
        raise ImproperlyConfigured(f"result_backend {backend!r} is refused: {_REFUSED[backend]}; {INSTEAD}")
    if backend.startswith("celery.backends."):
        backend = f"pyqs_{backend}"
    overridden = getattr(loader, "override_backends", None) or {}
    wanted: Any = overridden.get(backend) or ALIASES.get(backend) or _entry_point(backend)
    if wanted is None and "." not in backend and ":" not in backend:
        raise ImproperlyConfigured(f"result_backend {backend!r} is not known here; {INSTEAD}")
    try:
        found = symbol_by_name(wanted or backend)
    except (ImportError, AttributeError) as exc:
        reason = FOR_CELERY if getattr(exc, "name", None) == "celery" else f"it cannot be loaded: {exc}"
        raise ImproperlyConfigured(f"result_backend {backend!r}: {reason}") from exc
    if not isinstance(found, type):
        raise ImproperlyConfigured(f"result_backend {backend!r} is {found!r}, not a class")
    # classes of ours never say that they are Celery's, so these are of a Celery that is installed beside us
    if any(base.__module__.partition(".")[0] == "celery" for base in found.__mro__):
        raise ImproperlyConfigured(f"result_backend {backend!r}: {FOR_CELERY}")
    return found


def _entry_point(name: str) -> str | None:
    for found in entry_points(group="celery.result_backends"):
        if found.name == name:
            return found.value
    return None
