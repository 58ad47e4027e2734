"""Frames over a socket pair, and file descriptors beside them.

To a child go ``marshal`` frames of plain builtins; from a child come JSON frames, so that whatever a task does to its
process, the consumer reads nothing from it that could run code. Each frame is its length in four bytes, then its
bytes.
"""

from __future__ import annotations

import json
import marshal
import os
import select
import selectors
import socket
import struct
from collections import deque
from dataclasses import fields
from typing import Any, get_args

from pyqs_celery.outcome import Outcome, OutcomeKind
from pyqs_celery.worker.quick import QuickSocket

_LENGTH = struct.Struct(">I")
FRAME_MOST = 64 * 1024 * 1024
_READ_BYTES = 1 << 16


class FrameError(ValueError):
    """The other side sent what is no frame."""


class FrameReader:
    """Gathers bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes and give the frames that are complete. Raises FrameError for one of absurd length."""
        if not self._buffer and len(data) > _LENGTH.size and _LENGTH.unpack_from(data)[0] == len(data) - _LENGTH.size:
            return [data[_LENGTH.size :]]  # the usual case: one frame, and whole
        self._buffer += data
        frames = []
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > FRAME_MOST:
                raise FrameError(f"a frame of {length} bytes")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                break
            frames.append(bytes(self._buffer[_LENGTH.size : end]))
            del self._buffer[:end]
        return frames


def framed(data: bytes) -> bytes:
    """One frame."""
    return _LENGTH.pack(len(data)) + data


def send_json(sock: socket.socket, value: dict[str, Any]) -> None:
    """Tell the other side something. Raises OSError if it is gone."""
    sock.sendall(framed(json.dumps(value).encode()))


def read_json(frame: bytes) -> dict[str, Any]:
    """A JSON frame. Raises FrameError."""
    try:
        value = json.loads(frame)
    except (ValueError, RecursionError) as exc:
        raise FrameError("a frame that is no JSON") from exc
    if not isinstance(value, dict):
        raise FrameError("a frame that is no JSON object")
    return value


class WakeUps:
    """Ends a ``select`` of this process: registered for reading, written to by signals and other threads."""

    def __init__(self) -> None:
        self.reader, self.writer = socket.socketpair()
        self.reader.setblocking(False)
        self.writer.setblocking(False)

    def send(self) -> None:
        """Wake the loop; from any thread."""
        try:
            self.writer.send(b"\0")
        except (BlockingIOError, OSError):
            return  # wake-ups enough are waiting, or the loop has ended

    def drain(self) -> None:
        """Take all that are waiting."""
        try:
            while self.reader.recv(4096):
                pass
        except BlockingIOError:
            return

    def close(self) -> None:
        """Close both ends."""
        self.reader.close()
        self.writer.close()


class ChildEnd:
    """A child's side: blocking."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._reader = FrameReader()
        self._frames: list[bytes] = []
        self._hang_up = select.poll()
        self._hang_up.register(sock, 0)

    def next_work(self) -> tuple[Any, ...] | None:
        """Wait for work; None when the consumer has gone or wants no more, empty if this process is to end.

        Work of a consumer that has gone meanwhile is not begun: nobody keeps its lease, and its end could not be told.
        """
        while not self._frames:
            data = self.sock.recv(_READ_BYTES)
            if not data:
                return None
            self._frames = self._reader.feed(data)
        if self._hang_up.poll(0):
            return None
        work: tuple[Any, ...] = marshal.loads(self._frames.pop(0))  # noqa: S302 - written by our own consumer
        return work

    def is_addressed(self) -> bool:
        """True if the consumer has said something that is not read yet; while a task runs, that is ``announce_end``."""
        try:
            return bool(self._frames or self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False

    def tell(self, **facts: Any) -> None:
        """Send a JSON frame."""
        send_json(self.sock, facts)

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()


class ConsumerEnd:
    """The consumer's side of one child; it never blocks, however slow or frozen the child is."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.setblocking(False)
        self._quick = QuickSocket(sock)
        self._reader = FrameReader()
        self._unsent = b""

    def read(self) -> list[dict[str, Any]] | None:
        """What the child says; an empty list if nothing is complete yet, None at its end. Raises FrameError."""
        try:
            data = self._quick.receive()
        except BlockingIOError:
            return []
        except OSError:
            return None
        return [read_json(frame) for frame in self._reader.feed(data)] if data else None

    @property
    def has_more(self) -> bool:
        """True if there is something to read, be it the end."""
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def give(self, work: tuple[Any, ...]) -> bool:
        """Begin to hand out work; False if the child is gone. ``is_sending`` says whether ``push`` must go on."""
        self._unsent = framed(marshal.dumps(work))
        return self.push()

    def announce_end(self) -> None:
        """Let the child know, while it works, that a signal which follows is meant for it alone."""
        if not self.is_sending:
            self.give(())

    def push(self) -> bool:
        """Send what the socket takes; False if the child is gone."""
        try:
            self._unsent = self._unsent[self._quick.send(self._unsent) :]
        except BlockingIOError:
            return True
        except OSError:
            self._unsent = b""
            return False
        return True

    @property
    def is_sending(self) -> bool:
        """True while part of the last work waits for room in the socket."""
        return bool(self._unsent)

    def close(self) -> None:
        """Close the socket, which tells the child to leave."""
        self.sock.close()


class Control:
    """One end between manager and consumer: JSON frames, some with a file descriptor. It never blocks.

    What the other side does not take yet waits here; while ``is_sending``, call ``push`` when the socket takes more.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.setblocking(False)
        self._reader = FrameReader()
        self._fds: list[int] = []
        self._unsent: deque[tuple[bytes, int | None]] = deque()

    def send(self, value: dict[str, Any], fd: int | None = None) -> bool:
        """Send a frame, now or when there is room; False if the other side is gone. ``fd`` stays the caller's."""
        data = framed(json.dumps(value | ({"fd": True} if fd is not None else {})).encode())
        self._unsent.append((data, os.dup(fd) if fd is not None else None))
        return self.push()

    def push(self) -> bool:
        """Send what the socket takes; False if the other side is gone."""
        while self._unsent:
            data, fd = self._unsent[0]
            try:
                sent = self.sock.send(data) if fd is None else socket.send_fds(self.sock, [data], [fd])
            except BlockingIOError:
                return True
            except OSError:
                self._drop_unsent()
                return False
            if fd is not None:
                os.close(fd)
            if sent < len(data):
                self._unsent[0] = (data[sent:], None)
            else:
                self._unsent.popleft()
        return True

    @property
    def is_sending(self) -> bool:
        """True while something waits for room in the socket."""
        return bool(self._unsent)

    @property
    def events(self) -> int:
        """What to wait for on the socket."""
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)

    def read(self) -> list[tuple[dict[str, Any], int | None]] | None:
        """Frames, each with the descriptor that came with it, as far as there are any; None at the other side's end."""
        try:
            data, fds, _, _ = socket.recv_fds(self.sock, _READ_BYTES, 64)
        except BlockingIOError:
            return []
        except ConnectionError:
            return None
        self._fds.extend(fds)
        if not data:
            return None
        values = [read_json(frame) for frame in self._reader.feed(data)]
        return [(value, self._fds.pop(0) if value.get("fd") else None) for value in values]

    def _drop_unsent(self) -> None:
        for _, fd in self._unsent:
            if fd is not None:
                os.close(fd)
        self._unsent.clear()

    def close(self) -> None:
        """Close the socket and descriptors nobody took."""
        self._drop_unsent()
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()
        self.sock.close()


_KINDS = frozenset(get_args(OutcomeKind))
_ALWAYS = {"kind", "task", "task_id", "runtime_seconds"}
_SELDOM = tuple(field.name for field in fields(Outcome) if field.name not in _ALWAYS)


def outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    """An outcome as a JSON frame carries it: the first fields always, the others unless they are empty."""
    said = {
        "kind": outcome.kind,
        "task": outcome.task,
        "task_id": outcome.task_id,
        "runtime_seconds": outcome.runtime_seconds,
    }
    for name in _SELDOM:
        value = getattr(outcome, name)
        if value is not None and value is not False and value != "":
            said[name] = value
    return said


def outcome_from_json(value: Any) -> Outcome:
    """The inverse. Raises FrameError for what no child of ours would say."""
    if not isinstance(value, dict) or not value.keys() >= _ALWAYS or value["kind"] not in _KINDS:
        raise FrameError("a frame that is no outcome")
    if not all(isinstance(value.get(name) or 0, int | float) for name in ("runtime_seconds", "eta", "native_delay")):
        raise FrameError("an outcome with a time that is no number")
    try:
        return Outcome(**value)
    except TypeError as exc:
        raise FrameError("an outcome with a field that is none") from exc
