"""Reads and writes of a socket that keep the interpreter lock.

``socket.send`` lets other threads run while the kernel copies a few hundred bytes. In the consumer one of them always wants to: a
receiver or a settler, which then keeps the lock until it waits for the network itself, while children that are idle wait for
the loop. Where neither call can block, the same system calls are made here without letting go of the lock; with four children
on two cores the worker runs a third more tasks a second (docs/performance.rst).
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket

BUFFER_BYTES = 4096
"""What one read takes: a child's report is a hundred bytes or two."""
_RECEIVE_FLAGS = int(socket.MSG_DONTWAIT)
_SEND_FLAGS = _RECEIVE_FLAGS | int(getattr(socket, "MSG_NOSIGNAL", 0))
"""No SIGPIPE for a socket whose other end is gone; Python ignores that signal where there is no such flag."""
_library = ctypes.PyDLL(None, use_errno=True)
_send, _receive = _library.send, _library.recv
_send.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)
_receive.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_send.restype = _receive.restype = ctypes.c_ssize_t


class QuickSocket:
    """The two calls on one connected socket, which never block. One thread at a time may use it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = ctypes.create_string_buffer(BUFFER_BYTES)

    def send(self, data: bytes) -> int:
        """Send what the socket takes; how many bytes. Raises BlockingIOError if it takes none, OSError if nobody is there."""
        return self._checked(_send(self._sock.fileno(), data, len(data), _SEND_FLAGS))

    def receive(self) -> bytes:
        """What is there, up to ``BUFFER_BYTES``, or nothing at the end. Raises BlockingIOError if nothing is there yet."""
        size = self._checked(_receive(self._sock.fileno(), self._buffer, BUFFER_BYTES, _RECEIVE_FLAGS))
        return ctypes.string_at(self._buffer, size)

    @staticmethod
    def _checked(result: int) -> int:
        if result >= 0:
            return result
        number = ctypes.get_errno()
        if number == errno.EINTR:
            number = errno.EAGAIN  # a signal came first: the loop is told again that the socket is ready
        raise OSError(number, os.strerror(number))
