"""The default scheduler: it remembers in a file when each entry last ran.

The file is JSON, replaced as a whole after each tick that sent something, so that a killed beat neither repeats nor forgets
one. A file that cannot be read (a corrupt one, or one of Celery's) is set aside, never overwritten.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from pyqs_celery.beat.scheduler import Scheduler
from pyqs_celery.exceptions import BootError
from pyqs_celery.utils.times import parse_iso

logger = logging.getLogger("celery.beat")
FORMAT = 1


class PersistentScheduler(Scheduler):
    """``schedule_filename`` is the file (default: ``beat_schedule_filename``); only one beat may use it at a time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.path = Path(kwargs.pop("schedule_filename", None) or "celerybeat-schedule")
        self._lock: int | None = None
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        """Take the file, read what it knows, and merge ``beat_schedule`` into it. Raises BootError if another beat has it."""
        self._take_lock()
        super().setup_schedule()
        known = self._read()
        for name, entry in self.schedule.items():
            if name in known:
                entry.last_run_at, entry.total_run_count = known[name]
        self.sync()

    def _take_lock(self) -> None:
        path = self.path.with_name(self.path.name + ".lock")
        try:
            self._lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as exc:
            raise BootError(f"beat's schedule file {self.path} cannot be used: {exc.strerror} ({path})") from exc
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            owner = os.read(self._lock, 20).decode("ascii", "replace").strip()
            os.close(self._lock)
            self._lock = None
            raise BootError(
                f"another beat (process {owner or 'unknown'}) uses the schedule file {self.path}: two would send every task "
                "twice; stop it, or name another file with -s"
            ) from exc
        os.truncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _read(self) -> dict[str, tuple[datetime, int]]:
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        try:
            document = json.loads(text)
            if document["format"] != FORMAT:
                raise ValueError(f"format {document['format']}")
            entries = {
                str(name): (parse_iso(known["last_run_at"]), int(known["total_run_count"]))
                for name, known in document["entries"].items()
            }
            zone = document["timezone"]
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            self._set_aside(exc)
            return {}
        if zone != str(self.app.timezone):
            logger.warning("Reset: Timezone changed from %r to %r", zone, str(self.app.timezone))
            return {}
        return entries

    def _set_aside(self, reason: Exception) -> None:
        free = (self.path.with_name(f"{self.path.name}.unreadable-{number}") for number in count(1))
        target = next(path for path in free if not path.exists())
        self.path.rename(target)
        logger.error(
            "The schedule file %s is not one of ours or is damaged (%s): %s now; every entry counts from this moment",
            *(self.path, reason, target),
        )

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Send one entry, and write down that it was."""
        super().apply_entry(entry, producer)
        if not self.sync_every_tasks:
            self._do_sync()

    def sync(self) -> None:
        """Replace the file."""
        entries = {
            name: {"last_run_at": entry.last_run_at.isoformat(), "total_run_count": entry.total_run_count}
            for name, entry in self.schedule.items()
        }
        document = {"format": FORMAT, "timezone": str(self.app.timezone), "entries": entries}
        fresh = self.path.with_name(self.path.name + ".new")
        try:
            fresh.write_text(json.dumps(document, indent=1), "utf-8")
            fresh.replace(self.path)
        except OSError as exc:
            logger.error(
                "The schedule file %s cannot be written: %s; a restart would not know what has run", self.path, exc
            )

    def close(self) -> None:
        """Write for the last time and let the file go."""
        self.sync()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def info(self) -> str:
        """A line for the banner."""
        return f"    . db -> {self.path}"
