"""``celery.utils.nodenames``: names of workers, and what %h, %n, %d and others stand for in names and paths of files.

https://docs.celeryq.dev/en/stable/userguide/workers.html#variables-in-file-paths
"""

from __future__ import annotations

import re
import socket

from pyqs_celery.utils import nodesplit

__all__ = ("default_nodename", "gethostname", "host_format", "node_format", "node_name", "nodename", "nodesplit")

DEFAULT_NAME = "celery"


def gethostname() -> str:
    """The name of this machine."""
    return socket.gethostname()


def nodename(name: str, hostname: str) -> str:
    """``name@hostname``."""
    return f"{name}@{hostname}"


def default_nodename(hostname: str | None) -> str:
    """``celery@host``, or what of it is given."""
    name, host = nodesplit(hostname or "")
    return nodename(name or DEFAULT_NAME, host or gethostname())


def node_name(pattern: str | None, host: str | None = None) -> str:
    """A worker's name from ``-n``, ``celery@%h`` by default, of which either part may be missing its ``@%h``."""
    name = pattern or f"{DEFAULT_NAME}@%h"
    return host_format(name if "@" in name else f"{name}@%h", host)


def host_format(s: str, host: str | None = None, name: str | None = None, **more: str) -> str:
    """``s`` with %h the host (this one by default), %n ``name`` (or the host's first part), %d the domain and %% a %.

    ``more`` are further letters, or other texts for these. %i and %I (Celery's number of a pool process, which has a log of
    its own there) are those of a main process: 0 and nothing. Raises ValueError for a letter that stands for nothing.
    """
    full = host or gethostname()
    first, _, domain = full.partition(".")
    known = {"h": full, "n": name or first, "d": domain, "i": "0", "I": "", "%": "%", **more}

    def text(mark: re.Match[str]) -> str:
        if mark[1] not in known:
            raise ValueError(f"%{mark[1]} in {s!r} stands for nothing; a plain % is written %%")
        return known[mark[1]]

    return re.sub(r"%([A-Za-z%])", text, s)


def node_format(s: str, name: str, **more: str) -> str:
    """``s``, mostly a path, for the node ``name@host``: %p is the whole name; %n, %h and %d are as in ``host_format``."""
    node, host = nodesplit(name)
    return host_format(s, host, node or DEFAULT_NAME, p=name, **more)
