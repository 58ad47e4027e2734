"""Names of workers: ``celery@host``, with Celery's ``%h``, ``%n`` and ``%d``."""

from __future__ import annotations

import re
import socket


def node_name(pattern: str | None, host: str | None = None) -> str:
    """The worker's name from ``-n``: %h is the host, %n its first part, %d its domain; ``celery@host`` by default."""
    full = host or socket.gethostname()
    first, _, domain = full.partition(".")
    name = pattern or "celery@%h"
    if "@" not in name:
        name = f"{name}@%h"
    return name.replace("%%", "\0").replace("%h", full).replace("%n", first).replace("%d", domain).replace("\0", "%")


def expand(text: str, name: str) -> str:
    """File names for a node: %n its name, %h the whole, %d its host; %i and %I (children) are empty, they share a file."""
    node, _, host = name.partition("@")
    known = {"%n": node, "%h": name, "%d": host, "%i": "", "%I": "", "%p": name, "%%": "%"}
    return re.sub(r"%[nhdiIp%]", lambda match: known[match[0]], text)
