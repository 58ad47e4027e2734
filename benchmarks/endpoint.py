"""The SQS that is measured against: the embedded one behind a faster front (httptools, uvloop, orjson), on one core.

Runs in an environment of its own: ``python -m benchmarks.endpoint --port 0 --core 0``. What it knows and refuses is
``pyqs_celery.local``'s; only the reading of HTTP and JSON is other.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from typing import Any

import httptools
import orjson
import uvloop

from pyqs_celery.local.http import HttpConnection, HttpRequest
from pyqs_celery.local.server import Server


class FastConnection(HttpConnection):
    """A connection read by httptools; of the headers only the one that names the action is kept."""

    def connection_made(self, transport: Any) -> None:
        """Asyncio's: the connection is open. uvloop's transports derive from none of asyncio's classes."""
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        """Asyncio's: bytes have come."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as exc:
            self._refuse(str(exc))

    def on_message_begin(self) -> None:
        """httptools': a request begins."""
        self._headers: dict[str, str] = {}
        self._parts: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        """httptools': the path."""
        self._path = url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools': one header."""
        if name.lower() == b"x-amz-target":
            self._headers["x-amz-target"] = value.decode("latin-1")
        elif name.lower() == b"expect":
            self._send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, part: bytes) -> None:
        """httptools': some of the body."""
        self._parts.append(part)

    def on_message_complete(self) -> None:
        """httptools': the request is whole."""
        method = self._parser.get_method().decode("latin-1")
        self._handle(self, HttpRequest(method, self._path, self._headers, b"".join(self._parts)))


class FastServer(Server):
    """The embedded SQS with faster hands."""

    connection = FastConnection
    read_json = staticmethod(orjson.loads)
    write_json = staticmethod(orjson.dumps)


async def _serve(port: int) -> None:
    server = FastServer(asyncio.get_running_loop())
    await server.listen("127.0.0.1", port)
    print(f"SQS for benchmarks on {server.store.endpoint}", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Serve until a signal ends it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.endpoint", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--core", type=int, help="the one processor core to run on")
    arguments = parser.parse_args()
    if arguments.core is not None:
        os.sched_setaffinity(0, {arguments.core})
    uvloop.run(_serve(arguments.port))


if __name__ == "__main__":
    main()
