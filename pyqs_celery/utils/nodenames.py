"""``celery.utils.nodenames``: names of workers."""

from __future__ import annotations

import socket

from pyqs_celery.utils import nodesplit

__all__ = ("default_nodename", "gethostname", "host_format", "nodename", "nodesplit")


def gethostname() -> str:
    """The name of this machine."""
    return socket.gethostname()


def nodename(name: str, hostname: str) -> str:
    """``name@hostname``."""
    return f"{name}@{hostname}"


def default_nodename(hostname: str | None) -> str:
    """``celery@host``, or what of it is given."""
    name, host = nodesplit(hostname or "")
    return nodename(name or "celery", host or gethostname())


def host_format(s: str, host: str | None = None, name: str | None = None) -> str:
    """``s`` with %h the host, %n the name (or the host's first part) and %d the domain."""
    full = host or gethostname()
    first, _, domain = full.partition(".")
    known = {"%h": full, "%n": name or first, "%d": domain, "%%": "%"}
    for mark, text in known.items():
        s = s.replace(mark, text)
    return s
