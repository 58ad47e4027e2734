"""Results as files in a directory that all processes share: ``result_backend = "file:///var/lib/results"``.

One file for each key, named as Celery names them, replaced as a whole. ``celery.backend_cleanup`` removes those that are
older than ``result_expires``.
https://docs.celeryq.dev/en/stable/userguide/configuration.html#file-system-backend-settings
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyqs_celery.backends import chords
from pyqs_celery.backends.keyvalue import CHORD_DONE_SECONDS, KeyValueStoreBackend
from pyqs_celery.exceptions import BackendError, ImproperlyConfigured

UNFINISHED = ".pyqs-celery-"
LOCK = ".pyqs-celery.lock"
MOST_NAME_BYTES = 255


class FilesystemBackend(KeyValueStoreBackend):
    """Documents by task id, each in a file. Raises ImproperlyConfigured at once if the directory cannot be used.

    A file that ``add`` has written carries the end of its time as its date.
    """

    supports_result_compression = True
    thread_safe = True

    def __init__(self, app: Any, url: str | None = None, **kwargs: Any) -> None:
        super().__init__(app, url=url, **kwargs)
        self.path = Path(_directory(url))
        self._check()

    def _check(self) -> None:
        key = f".fs-backend-{uuid.uuid4().hex}".encode("ascii")
        try:
            self.set(key, b"may this process write here?")
            self.get(key)
            self.delete(key)
        except OSError as exc:
            raise ImproperlyConfigured(
                f"results cannot be kept in {self.path}: {exc.strerror}; it must be a directory that exists and in which "
                "workers and clients may read and write"
            ) from exc

    def exception_safe_to_retry(self, exc: BaseException) -> bool:
        """True for what a disk or a network may recover from."""
        return isinstance(exc, OSError)

    def _file(self, key: bytes) -> Path:
        if b"/" in key or b"\x00" in key or len(key) > MOST_NAME_BYTES:
            raise BackendError(
                f"{key!r} cannot be a file: {MOST_NAME_BYTES} bytes at most, and ids with / have no place here"
            )
        return self.path / os.fsdecode(key)

    def get(self, key: bytes) -> bytes | None:
        """The value of a key."""
        try:
            return self._file(key).read_bytes()
        except FileNotFoundError:
            return None

    def set(self, key: bytes, value: Any) -> None:
        """Write a value."""
        self._write(key, value)

    def delete(self, key: bytes) -> None:
        """Forget a key."""
        self._file(key).unlink(missing_ok=True)

    def _write(self, key: bytes, value: Any, until: float | None = None) -> None:
        """Put a file in its place as a whole, its date ``until``."""
        place, unfinished = self._file(key), self.path / f"{UNFINISHED}{uuid.uuid4().hex}"
        try:
            # as open() makes files, so that the umask says who may read them
            unfinished.write_bytes(value.encode("utf-8") if isinstance(value, str) else value)
            if until is not None:
                os.utime(unfinished, (until, until))
            unfinished.replace(place)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise

    # -- chords ------------------------------------------------------------------------------------

    def add(self, key: bytes, value: Any, expires: float) -> bool:
        """Write a value if the key has none, or one whose time is over."""
        with self._locked():
            try:
                if self._file(key).stat().st_mtime > time.time():
                    return False
            except FileNotFoundError:
                pass
            self._write(key, value, time.time() + expires)
            return True

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.path / LOCK).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def mark_chord_done(self, group_id: str) -> None:
        """The body's message is safe: whoever reports late does nothing."""
        self._write(self.get_key_for_chord(group_id, ".c"), chords.DONE, time.time() + CHORD_DONE_SECONDS)

    # -- expiry ------------------------------------------------------------------------------------

    def cleanup(self) -> None:
        """Remove files of results, groups and chords that are older than ``result_expires``."""
        if not self.expires:
            return
        oldest = time.time() - self.expires
        prefixes = (self.task_keyprefix, self.group_keyprefix, self.chord_keyprefix)
        ours = (UNFINISHED, *(os.fsdecode(prefix) for prefix in prefixes))
        for file in self.path.iterdir():
            if file.name.startswith(ours):
                with contextlib.suppress(FileNotFoundError):
                    if file.stat().st_mtime < oldest:
                        file.unlink()


def _directory(url: str | None) -> str:
    for start in ("file://localhost/", "file:///"):
        if url and url.startswith(start):
            return "/" + url[len(start) :]
    raise ImproperlyConfigured(f"a directory of results is written as file:///directory, not {url!r}")
