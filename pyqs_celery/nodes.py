"""The workers of this user on this host: where their sockets are, and asking them.

A question is one line of JSON, and so is its answer. Nothing here knows AWS or an application, so that a probe costs
little more than the start of Python. Sockets lie in a folder that is its user's alone; nothing listens on a network.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import selectors
import socket
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

FOLDER_VARIABLE = "PYQS_CELERY_CONTROL_DIR"
REQUEST_BYTES_MOST = 64 * 1024
ANSWER_BYTES_MOST = 64 * 1024 * 1024
PATH_BYTES_MOST = 100
"""The kernel takes a little over 100 bytes (unix(7)); longer paths are reached through the folder's descriptor."""
BACKLOG = 64
CROWDED_SECONDS = 0.02
"""How long to wait before a worker is called again whose line was full."""
_READ_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Asked:
    """What workers answered, by node name, and which sockets had somebody who did not answer in time.

    ``twins`` are the names and answers of those whose name another one has, who is in ``replies``.
    """

    replies: dict[str, Any]
    silent: tuple[str, ...] = ()
    twins: tuple[tuple[str, Any], ...] = ()

    def is_silent(self, name: str) -> bool:
        """True if a worker of this name did not answer in time."""
        return any(_is_of(stem, file_name(name)) for stem in self.silent)


def folders(given: str | None = None) -> list[Path]:
    """Where sockets of this user's workers may be, the preferred place first.

    ``given``, else the variable PYQS_CELERY_CONTROL_DIR, is the only place; else XDG_RUNTIME_DIR and the folder for
    temporary files.
    """
    named = given or os.environ.get(FOLDER_VARIABLE)
    if named:
        return [Path(named)]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    found = [Path(runtime) / "pyqs-celery"] if runtime else []
    return [*found, Path(tempfile.gettempdir()) / f"pyqs-celery-{os.geteuid()}"]


def is_private(folder: Path) -> bool:
    """True for a folder, and no link to one, that belongs to this user and is closed to everybody else."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def make_folder(given: str | None = None) -> Path:
    """The folder for a worker's socket, made if need be. Raises OSError that says why there can be none."""
    refusals = []
    for folder in folders(given):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            refusals.append(str(exc))
            continue
        if is_private(folder):
            return folder
        refusals.append(f"{folder} does not belong to this user alone (owner, mode 0700)")
    raise OSError("; ".join(refusals))


def file_name(name: str) -> str:
    """The name of a node's socket, without its ending: the node's own, made safe and short."""
    safe = re.sub(r"[^A-Za-z0-9@._-]", "_", name)
    if safe == name and len(name) <= 60:
        return name
    return f"{safe[:40]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


@contextmanager
def _reachable(path: Path) -> Iterator[str]:
    """``path`` as the kernel takes it, however long it is."""
    if len(os.fsencode(path)) <= PATH_BYTES_MOST:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def connect(path: Path) -> socket.socket:
    """A connection that does not block. Raises OSError: ConnectionRefusedError where nobody listens any more."""
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    try:
        with _reachable(path) as address:
            sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_dead(path: Path) -> bool:
    try:
        connect(path).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    except OSError:
        return False
    return False


def listen(folder: Path, name: str) -> tuple[socket.socket, Path, bool]:
    """A listening socket for a node, its path, and whether another node of that name lives. Raises OSError.

    Sockets that dead workers left are removed. A second node of a name gets a socket beside the first's.
    """
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in folder.glob("*.sock"):
            if _is_dead(left):
                left.unlink(missing_ok=True)
        path = folder / f"{file_name(name)}.sock"
        is_second = path.exists()
        if is_second:
            path = folder / f"{file_name(name)}.{os.urandom(4).hex()}.sock"
        sock = socket.socket(socket.AF_UNIX)
        try:
            with _reachable(path) as address:
                sock.bind(address)
            path.chmod(0o600)
            sock.listen(BACKLOG)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
        return sock, path, is_second
    finally:
        os.close(lock)


def _is_of(stem: str, name: str) -> bool:
    """True if a socket's name is that of the node with this file name, or of its twin."""
    return stem == name or stem.rpartition(".")[0] == name


def is_meant(name: str, destination: Any, pattern: Any) -> bool:
    """True if a question to ``destination`` (names, or None for all) and ``pattern`` (a glob, or None) is for ``name``."""
    if isinstance(destination, (list, tuple)) and name not in destination:
        return False
    return not (isinstance(pattern, str) and not fnmatchcase(name, pattern))


def ask(
    command: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    destination: Iterable[str] | None = None,
    pattern: str | None = None,
    timeout: float = 1.0,
    folder: str | None = None,
) -> Asked:
    """Put a question to this user's workers on this host, and wait at most ``timeout`` seconds for their answers.

    Returns as soon as all who are meant have answered. Raises ValueError for a question that is too long.
    """
    names = None if destination is None else list(destination)
    question = {"command": command, "arguments": dict(arguments or {}), "timeout": timeout}
    line = json.dumps({**question, "destination": names, "pattern": pattern}).encode() + b"\n"
    if len(line) > REQUEST_BYTES_MOST:
        raise ValueError(f"a question may have {REQUEST_BYTES_MOST} bytes, not {len(line)}")
    with selectors.DefaultSelector() as selector:
        call = _Call(selector, names)
        try:
            for path in _sockets(folder):
                call.put(path, line)
            call.wait(time.monotonic() + timeout)
        finally:
            call.close()
    return Asked(call.replies, tuple(sorted(call.silent)), tuple(call.twins))


def _sockets(folder: str | None) -> list[Path]:
    return [path for place in folders(folder) if is_private(place) for path in sorted(place.glob("*.sock"))]


class _Call:
    """One question on its way to several workers."""

    def __init__(self, selector: selectors.BaseSelector, names: list[str] | None) -> None:
        self.replies: dict[str, Any] = {}
        self.twins: list[tuple[str, Any]] = []
        self.silent: set[str] = set()
        self._names = names
        self._selector = selector
        self._heard: dict[socket.socket, bytearray] = {}
        self._crowded: list[tuple[Path, bytes]] = []

    def put(self, path: Path, line: bytes) -> None:
        """Ask one worker."""
        try:
            sock = connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except BlockingIOError:  # many are asking it at this moment
            self._crowded.append((path, line))
            self.silent.add(path.stem)
            return
        except OSError:
            self.silent.add(path.stem)
            return
        try:
            sock.sendall(line)
        except OSError:
            sock.close()
            self.silent.add(path.stem)
            return
        self._heard[sock] = bytearray()
        self._selector.register(sock, selectors.EVENT_READ, path.stem)
        self.silent.add(path.stem)

    def wait(self, deadline: float) -> None:
        """Gather answers."""
        while (self._heard or self._crowded) and not self._is_complete():
            left = deadline - time.monotonic()
            if left <= 0:
                return
            crowded, self._crowded = self._crowded, []
            for path, line in crowded:
                self.put(path, line)
            for key, _ in self._selector.select(min(left, CROWDED_SECONDS) if self._crowded else left):
                assert isinstance(key.fileobj, socket.socket)
                self._hear(key.fileobj, key.data)

    def _is_complete(self) -> bool:
        if self._names is None or not set(self._names) <= set(self.replies):
            return False
        return not any(_is_of(stem, file_name(name)) for stem in self.silent for name in self._names)

    def _hear(self, sock: socket.socket, name: str) -> None:
        try:
            data = sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._heard[sock] += data
        if data and len(self._heard[sock]) <= ANSWER_BYTES_MOST:
            return
        self._selector.unregister(sock)
        sock.close()
        try:
            answer = json.loads(bytes(self._heard.pop(sock)))
        except ValueError:
            return
        self.silent.discard(name)
        if isinstance(answer, dict) and "reply" in answer:
            node = str(answer.get("hostname", name))
            if node in self.replies:
                self.twins.append((node, answer["reply"]))
            else:
                self.replies[node] = answer["reply"]

    def close(self) -> None:
        """Hang up."""
        for sock in self._heard:
            sock.close()
