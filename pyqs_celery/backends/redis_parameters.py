"""From Celery's settings and a URL to the parameters of Redis's client.

``redis://user:password@host:port/db?option=value``, ``rediss://...?ssl_cert_reqs=required``, ``redis+socket:///path``; the
settings ``redis_*`` stand where the URL says nothing.
https://docs.celeryq.dev/en/stable/userguide/configuration.html#redis-backend-settings
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from ssl import CERT_NONE, CERT_OPTIONAL, CERT_REQUIRED
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pyqs_celery.exceptions import ImproperlyConfigured
from pyqs_celery.utils.imports import symbol_by_name

logger = logging.getLogger("celery.backends.redis")
TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs")
CONNECT_SECONDS = 10.0
"""Without a setting a connection would take as long as a command may, and a task's end would be held up by that."""
_CERT_REQS = {
    "CERT_REQUIRED": CERT_REQUIRED,
    "CERT_OPTIONAL": CERT_OPTIONAL,
    "CERT_NONE": CERT_NONE,
    "required": CERT_REQUIRED,
    "optional": CERT_OPTIONAL,
    "none": CERT_NONE,
}
_PASSING_ANSWERS = ("LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM", "READONLY", "TRYAGAIN", "CLUSTERDOWN")


def client_library() -> Any:
    """The package ``redis``. Raises ImproperlyConfigured where it is not installed."""
    try:
        import redis
        import redis.sentinel
    except ImportError as exc:
        raise ImproperlyConfigured("results in Redis need the package redis: pip install 'pyqs-celery[redis]'") from exc
    return redis


def from_settings(conf: Mapping[str, Any], max_connections: int | None, tls_class: Any) -> dict[str, Any]:
    """What the settings say; ``tls_class`` is the connection class for ``redis_backend_use_ssl``."""
    found = {
        "host": conf.get("redis_host") or "localhost",
        "port": conf.get("redis_port") or 6379,
        "db": conf.get("redis_db") or 0,
        "password": conf.get("redis_password"),
        "max_connections": max_connections or conf.get("redis_max_connections"),
        "socket_timeout": _seconds(conf.get("redis_socket_timeout")),
        "socket_connect_timeout": _seconds(conf.get("redis_socket_connect_timeout")) or CONNECT_SECONDS,
        "retry_on_timeout": bool(conf.get("redis_retry_on_timeout")),
        "client_name": conf.get("redis_client_name"),
    }
    optional = {
        "username": conf.get("redis_username"),
        "health_check_interval": conf.get("redis_backend_health_check_interval"),
        "socket_keepalive": conf.get("redis_socket_keepalive"),
    }
    found |= {name: value for name, value in optional.items() if value}
    provider = conf.get("redis_backend_credential_provider")
    if provider:
        _provide_credentials(found, provider)
    if conf.get("redis_backend_use_ssl"):
        found |= {**conf["redis_backend_use_ssl"], "connection_class": tls_class}
    return found


def with_url(url: str, defaults: Mapping[str, Any], redis: Any) -> dict[str, Any]:
    """``defaults`` with what a URL says; its options win over everything."""
    scheme, _, rest = url.partition("://")
    parts = urlsplit(f"http://{rest}")
    query: dict[str, Any] = dict(parse_qsl(parts.query))
    path = unquote(parts.path.removeprefix("/"))
    given = {
        "host": unquote(parts.hostname or ""),
        "port": parts.port,
        "username": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "db": query.pop("virtual_host", None),
    }
    found = {**defaults, **{name: value for name, value in given.items() if value}}
    if scheme == "socket":
        found |= {"connection_class": redis.UnixDomainSocketConnection, "path": f"/{path}"}
        for name in ("host", "port", "socket_connect_timeout", "socket_keepalive"):
            found.pop(name, None)
    else:
        found["db"] = path
    found["db"] = _database(found.get("db"), url)
    if scheme == "redis" and any(name in query for name in TLS_OPTIONS):
        raise ImproperlyConfigured("a Redis URL with ssl_ options must begin with rediss://, not redis://")
    if scheme == "rediss":
        found["connection_class"] = redis.SSLConnection
        query |= {name: unquote(query[name]) for name in TLS_OPTIONS if name in query}
    provider = query.pop("credential_provider", None)
    if provider:
        _provide_credentials(found, provider)
    readers = redis.connection.URL_QUERY_ARGUMENT_PARSERS
    return found | {name: readers[name](value) if name in readers else value for name, value in query.items()}


def check_tls(parameters: dict[str, Any], redis: Any) -> None:
    """Have TLS say how certificates are checked. Raises ImproperlyConfigured if it does not."""
    kind = parameters.get("connection_class")
    if kind is None or not issubclass(kind, redis.SSLConnection):
        return
    wanted = parameters.get("ssl_cert_reqs", "missing")
    found = _CERT_REQS.get(wanted, wanted) if isinstance(wanted, str) else wanted
    if found not in (CERT_REQUIRED, CERT_OPTIONAL, CERT_NONE):
        raise ImproperlyConfigured(
            "rediss:// needs the option ssl_cert_reqs (in the URL or in redis_backend_use_ssl): required, optional or none"
        )
    if found != CERT_REQUIRED:
        logger.warning("ssl_cert_reqs is %s: whoever sits between here and Redis can read and write results", wanted)
    parameters["ssl_cert_reqs"] = found


def passing_errors(redis: Any, more: Any) -> tuple[type[BaseException], ...]:
    """Errors after which the same call may succeed; ``more`` is ``additional_connection_errors``, classes or names."""
    errors = redis.exceptions
    found = [OSError, errors.ConnectionError, errors.TimeoutError, errors.BusyLoadingError, errors.ReadOnlyError]
    # not in all releases of the client
    names = ("OutOfMemoryError", "TryAgainError", "ClusterDownError", "MasterDownError")
    found += [getattr(errors, name) for name in names if hasattr(errors, name)]
    for each in more if isinstance(more, (list, tuple, set)) else [more] if more else []:
        try:
            error = symbol_by_name(each)
        except (ImportError, AttributeError) as exc:
            logger.warning("additional_connection_errors: %r cannot be loaded: %s", each, exc)
            continue
        if isinstance(error, type) and issubclass(error, Exception):
            found.append(error)
        else:
            logger.warning("additional_connection_errors: %r is no exception class", each)
    return tuple(found)


def is_passing_answer(exc: BaseException) -> bool:
    """True for an error that Redis answers with and that may pass: it loads, it is full, it lost its master."""
    return str(exc).startswith(_PASSING_ANSWERS)


def _seconds(value: Any) -> float | None:
    return float(value) if value else None


def _database(value: Any, url: str) -> int:
    number = value.strip("/") if isinstance(value, str) else value
    try:
        return int(number or 0)
    except ValueError as exc:
        shown = url.rpartition("@")[2]
        raise ImproperlyConfigured(f"the database of a Redis URL is a number, not {value!r} (in ...{shown})") from exc


def _provide_credentials(parameters: dict[str, Any], provider: Any) -> None:
    from redis import CredentialProvider

    made = symbol_by_name(provider)() if isinstance(provider, str) else provider
    if not isinstance(made, CredentialProvider):
        raise ImproperlyConfigured(f"the credential provider {provider!r} is not a redis.CredentialProvider")
    parameters["credential_provider"] = made
    parameters.pop("username", None)
    parameters.pop("password", None)
