"""The manager's listening sockets: a unix socket for local control, and HTTP for probes. One thread, and nothing blocks.

Whoever connects has little time and little room, so that garbage, silence or a flood costs a connection and no more.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pyqs_celery import nodes
from pyqs_celery.exceptions import BootError

logger = logging.getLogger("celery.worker.control")
CALLERS_MOST = 64
SECONDS = 5.0
"""How long a caller may take to put its question, and again to take the answer."""
WAIT_SECONDS_MOST = 10.0
"""How long a question may wait for its answer."""
HTTP_BYTES_MOST = 8 * 1024
_READ_BYTES = 1 << 16
_UCRED = struct.Struct("3i")

OnQuestion = Callable[["Caller", dict[str, Any]], None]
OnProbe = Callable[[str], tuple[int, dict[str, Any]]]
"""From a path to a status and the body of the answer."""

PHRASES = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


class Caller:
    """One connection: it puts a question, waits, and takes the answer; then it is closed."""

    def __init__(self, sock: socket.socket, is_http: bool, deadline: float) -> None:
        self.sock = sock
        self.is_http = is_http
        self.deadline = deadline
        self.received = bytearray()
        self.unsent = b""
        self.is_open = True


class Doors:
    """Opens the sockets, takes questions, gives answers. ``selector`` is the manager's: what is ready goes to ``on_ready``."""

    def __init__(self, selector: selectors.BaseSelector, on_question: OnQuestion, on_probe: OnProbe) -> None:
        self._selector = selector
        self._on_question = on_question
        self._on_probe = on_probe
        self._callers: list[Caller] = []
        self._listening: dict[socket.socket, bool] = {}
        self._path: tuple[Path, int] | None = None

    # -- opening and closing -----------------------------------------------------------------------

    def open_control(self, name: str, folder: str | None) -> None:
        """Listen for local control; where that cannot be, the worker runs without it and says so."""
        try:
            sock, path, is_second = nodes.listen(nodes.make_folder(folder), name)
        except OSError as exc:
            logger.warning(
                "There is no local control of this worker (inspect, control, health): no socket can be made: %s. Name "
                "another folder with --control-dir or the variable %s",
                *(exc, nodes.FOLDER_VARIABLE),
            )
            return
        if is_second:
            logger.warning("Another worker on this host is named %s too; give each its own with -n", name)
        self._path = (path, path.stat().st_ino)
        self._listen(sock, is_http=False)

    def open_http(self, host: str, port: int) -> int:
        """Listen for probes; the port. Raises BootError if it is taken."""
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            sock = socket.create_server((host, port), family=family, backlog=nodes.BACKLOG)
        except OSError as exc:
            raise BootError(f"--health-port {port} on {host}: {exc.strerror or exc}") from exc
        sock.setblocking(False)
        self._listen(sock, is_http=True)
        return int(sock.getsockname()[1])

    def _listen(self, sock: socket.socket, *, is_http: bool) -> None:
        self._listening[sock] = is_http
        self._selector.register(sock, selectors.EVENT_READ, self)

    def sockets(self) -> Iterator[socket.socket]:
        """All that a new process must not keep."""
        yield from self._listening
        for caller in self._callers:
            yield caller.sock

    def close(self) -> None:
        """Close everything and remove the unix socket, if it is still ours."""
        for caller in list(self._callers):
            self.hang_up(caller)
        for sock in self._listening:
            self._selector.unregister(sock)
            sock.close()
        self._listening.clear()
        if self._path is not None:
            path, inode = self._path
            try:
                if path.stat().st_ino == inode:
                    path.unlink()
            except OSError as exc:
                logger.debug("The socket %s is gone already: %s", path, exc)

    # -- in the manager's loop ---------------------------------------------------------------------

    def next_due(self) -> float | None:
        """When ``expire`` is to be called (monotonic); None while nobody is connected."""
        return min((caller.deadline for caller in self._callers), default=None)

    def expire(self, now: float) -> None:
        """Hang up on whoever has taken too long."""
        for caller in [caller for caller in self._callers if caller.deadline <= now]:
            self.hang_up(caller)

    def on_ready(self, sock: socket.socket, mask: int) -> None:
        """One of our sockets is ready."""
        if sock in self._listening:
            self._accept(sock)
            return
        caller = next((each for each in self._callers if each.sock is sock), None)
        if caller is not None and mask & selectors.EVENT_WRITE:
            self._push(caller)
        elif caller is not None:
            self._hear(caller)

    def _accept(self, listening: socket.socket) -> None:
        try:
            sock, _ = listening.accept()
        except OSError as exc:
            logger.debug("A caller was gone before it was answered: %s", exc)
            return
        is_http = self._listening[listening]
        if not is_http and not _is_ours(sock):
            sock.close()
            return
        if len(self._callers) >= CALLERS_MOST:
            self.hang_up(self._callers[0])
        sock.setblocking(False)
        caller = Caller(sock, is_http, time.monotonic() + SECONDS)
        self._callers.append(caller)
        self._selector.register(sock, selectors.EVENT_READ, self)

    def _hear(self, caller: Caller) -> None:
        try:
            data = caller.sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        caller.received += data
        end, most = (b"\r\n\r\n", HTTP_BYTES_MOST) if caller.is_http else (b"\n", nodes.REQUEST_BYTES_MOST)
        if end in caller.received[: most + len(end)]:
            self._selector.unregister(caller.sock)
            question = bytes(caller.received.partition(end)[0])
            caller.received.clear()
            (self._take_http if caller.is_http else self._take)(caller, question)
        elif not data or len(caller.received) > most:
            self.hang_up(caller)

    # -- questions and answers ---------------------------------------------------------------------

    def _take(self, caller: Caller, line: bytes) -> None:
        try:
            question = json.loads(line)
        except (ValueError, RecursionError):
            question = None
        if not isinstance(question, dict) or not isinstance(question.get("command"), str):
            self.answer(caller, {"error": "a question is one line of JSON: an object with a command"})
            return
        timeout = question.get("timeout")
        wanted = timeout if isinstance(timeout, (int, float)) and timeout > 0 else WAIT_SECONDS_MOST
        caller.deadline = time.monotonic() + min(wanted, WAIT_SECONDS_MOST)
        self._on_question(caller, question)

    def answer(self, caller: Caller, value: dict[str, Any]) -> None:
        """Answer a question."""
        self._send(caller, json.dumps(value, default=str).encode() + b"\n")

    def _take_http(self, caller: Caller, head: bytes) -> None:
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            status, body = 400, {"error": "this is no request"}
        elif words[0] not in ("GET", "HEAD"):
            status, body = 405, {"error": "only GET and HEAD are answered"}
        else:
            status, body = self._on_probe(words[1].partition("?")[0])
        text = json.dumps(body).encode() + b"\n"
        lines = (
            f"HTTP/1.1 {status} {PHRASES[status]}",
            "Content-Type: application/json",
            f"Content-Length: {len(text)}",
            "Cache-Control: no-store",
            "Connection: close",
        )
        head = "\r\n".join(lines).encode() + b"\r\n\r\n"
        self._send(caller, head if words[0] == "HEAD" else head + text)

    def _send(self, caller: Caller, data: bytes) -> None:
        if not caller.is_open:
            return  # it has hung up, or its time was over
        caller.unsent = data
        caller.deadline = time.monotonic() + SECONDS
        self._selector.register(caller.sock, selectors.EVENT_WRITE, self)
        self._push(caller)

    def _push(self, caller: Caller) -> None:
        try:
            caller.unsent = caller.unsent[caller.sock.send(caller.unsent) :]
        except BlockingIOError:
            return
        except OSError:
            caller.unsent = b""
        if not caller.unsent:
            self.hang_up(caller)

    def hang_up(self, caller: Caller) -> None:
        """Close a connection, answered or not."""
        if not caller.is_open:
            return
        caller.is_open = False
        self._callers.remove(caller)
        if caller.sock in self._selector.get_map():
            self._selector.unregister(caller.sock)
        caller.sock.close()


def _is_ours(sock: socket.socket) -> bool:
    """True if the other side is this user or root. Where the system cannot tell, the folder's mode has kept others out."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True
    _, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, option, _UCRED.size))
    return uid in (0, os.geteuid())
