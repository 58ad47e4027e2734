"""A small HTTP/1.1 reader over asyncio: enough for boto3 and curl, with limits on what it will take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

HEAD_MOST = 64 * 1024
BODY_MOST = 16 * 1024 * 1024
SLOW_STEP_SECONDS = 0.5
_REASONS = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 500: "Internal Server Error"}


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request: header names in lower case."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class HttpConnection(asyncio.Protocol):
    """One connection; ``handle`` is called with each request, one at a time, and answers by ``write``."""

    def __init__(self, handle: Callable[[HttpConnection, HttpRequest], None]) -> None:
        self._handle = handle
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self.closed = False
        self.on_lost: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's: the connection is open."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio's: the connection is gone."""
        self.closed = True
        if self.on_lost is not None:
            self.on_lost()

    def data_received(self, data: bytes) -> None:
        """Asyncio's: bytes have come."""
        self._buffer += data
        while not self.closed:
            request = self._next_request()
            if request is None:
                return
            self._handle(self, request)

    def _next_request(self) -> HttpRequest | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > HEAD_MOST:
                self._refuse("the request's head is too long")
            return None
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        parts = lines[0].split(" ")
        length = headers.get("content-length", "0")
        if len(parts) != 3 or "transfer-encoding" in headers or not length.isdigit() or int(length) > BODY_MOST:
            self._refuse("a request line, a Content-Length and no Transfer-Encoding are needed")
            return None
        total = end + 4 + int(length)
        if len(self._buffer) < total:
            if headers.get("expect", "").lower() == "100-continue" and len(self._buffer) == end + 4:
                self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
            return None
        body = bytes(self._buffer[end + 4 : total])
        del self._buffer[:total]
        return HttpRequest(parts[0], parts[1], headers, body)

    def _refuse(self, why: str) -> None:
        self.write(400, why.encode(), {"Connection": "close"})
        if self._transport is not None:
            self._transport.close()
        self.closed = True

    def _send(self, data: bytes) -> None:
        if self._transport is not None and not self.closed:
            self._transport.write(data)

    def write(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Answer the request in hand."""
        self._send(self._head(status, body, headers) + body)

    def write_slowly(self, status: int, body: bytes, seconds: float) -> None:
        """Answer with the head at once and the body bit by bit, so that its end comes after ``seconds``."""
        self._send(self._head(status, body, None))
        steps = max(1, min(len(body), int(seconds / SLOW_STEP_SECONDS)))
        loop = asyncio.get_running_loop()
        for step in range(steps):
            part = body[len(body) * step // steps : len(body) * (step + 1) // steps]
            loop.call_later(seconds * (step + 1) / steps, self._send, part)

    @staticmethod
    def _head(status: int, body: bytes, headers: dict[str, str] | None) -> bytes:
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}", "Content-Type: application/x-amz-json-1.0"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"

    def abort(self) -> None:
        """Reset the connection: the client sees no answer."""
        if self._transport is not None:
            self._transport.abort()
        self.closed = True
