"""Run the embedded SQS in a process of its own until it is told to stop."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
from collections.abc import Callable, Iterable

from pyqs_celery.exceptions import ImproperlyConfigured
from pyqs_celery.local.persistence import SqliteJournal
from pyqs_celery.local.server import Server


def check_host(host: str, allow_remote: bool) -> None:
    """Refuse an address that others can reach unless told otherwise. Raises ImproperlyConfigured."""
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local and not allow_remote:
        raise ImproperlyConfigured(
            f"the embedded SQS checks no credentials, so it listens on loopback only and not on {host}; "
            "pass --allow-remote if that network is yours alone"
        )


def serve(
    host: str,
    port: int,
    *,
    data: str | None = None,
    queues: Iterable[str] = (),
    latency_ms: float = 0.0,
    on_ready: Callable[[str], None] = print,
) -> None:
    """Serve until SIGTERM or SIGINT. ``on_ready`` gets the endpoint once the port is open.

    ``data`` is a SQLite file that keeps everything; ``queues`` are created at start. Raises OSError if the port is
    taken.
    """
    asyncio.run(_serve(host, port, data, tuple(queues), latency_ms, on_ready))


async def _serve(
    host: str, port: int, data: str | None, queues: tuple[str, ...], latency_ms: float, on_ready: Callable[[str], None]
) -> None:
    loop = asyncio.get_running_loop()
    journal = SqliteJournal(data) if data else None
    server = Server(loop, journal=journal)
    server.latency = latency_ms / 1000
    if journal is not None:
        journal.restore(server.store)
    for name in queues:
        attributes = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
        server.store.create({"QueueName": name, "Attributes": attributes})
    stopped = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopped.set)
    await server.listen(host, port)
    on_ready(server.store.endpoint)
    await stopped.wait()
    server.close()
    if journal is not None:
        journal.close()
