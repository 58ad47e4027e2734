"""What makes a worker healthy: pure, and light enough for a probe, which imports neither boto3 nor an application.

A worker's state is told as *fuses*: sentences, each with the instant from which it is true unless somebody replaces it
first. So an old report judges itself: when its writer freezes, nobody replaces the fuses, and they burn down.
Instants are of the monotonic clock, which all processes of a machine share until it is started again.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

POLL_SECONDS = 60.0
"""Within this time every queue must complete a poll."""
HANGS_SECONDS = 120.0
"""A poll that in this time has neither succeeded nor failed hangs, which only a restart cures."""
REPORT_EVERY_SECONDS = 5.0
SILENCE_SECONDS = 30.0
"""How long a process may say nothing."""
FUSES_MOST = 20


@dataclass(frozen=True, slots=True)
class Fuse:
    """``reason`` is true from the instant ``at`` on. ``curable``: starting the worker anew would help."""

    at: float
    reason: str
    curable: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """A worker's state at the instant ``at``; ``facts`` are for people."""

    at: float
    state: str = "starting"
    fuses: tuple[Fuse, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:
        """As JSON carries it."""
        fuses = [[fuse.at, fuse.reason, fuse.curable] for fuse in self.fuses]
        return {"at": self.at, "state": self.state, "fuses": fuses, "facts": self.facts}

    @classmethod
    def from_plain(cls, plain: Any) -> Report:
        """The inverse. Raises ValueError for what is no report."""
        try:
            fuses = tuple(Fuse(float(at), str(reason), bool(curable)) for at, reason, curable in plain["fuses"])
            return cls(float(plain["at"]), str(plain["state"]), fuses, dict(plain["facts"]))
        except (KeyError, TypeError, ValueError) as exc:
            raise ValueError("this is no report of a worker's health") from exc


@dataclass(frozen=True, slots=True)
class Verdict:
    """Healthy or not, and why not."""

    ok: bool
    state: str
    reasons: tuple[str, ...]
    facts: dict[str, Any] = field(default_factory=dict)

    def to_plain(self, hostname: str) -> dict[str, Any]:
        """The body of an answer."""
        status = "ok" if self.ok else "unhealthy"
        return {
            "status": status,
            "state": self.state,
            "hostname": hostname,
            "reasons": list(self.reasons),
            **self.facts,
        }


def soonest(fuses: Iterable[Fuse]) -> tuple[Fuse, ...]:
    """As many as a report carries: those that burn first."""
    return tuple(sorted(fuses, key=lambda fuse: fuse.at)[:FUSES_MOST])


def judge(report: Report, now: float, *, live: bool = False) -> Verdict:
    """Healthy: it takes messages, and no fuse has burnt down.

    ``live``: healthy too while it starts or stops, or while something is wrong that a restart would not cure.
    """
    reasons = [fuse.reason for fuse in report.fuses if fuse.at <= now and (fuse.curable or not live)]
    if report.at > now:
        reasons.append("the report is from before the machine was started")
    elif now - report.at > SILENCE_SECONDS:
        reasons.append(f"the worker has not reported for {now - report.at:.0f} s")
    if report.state != "ready" and not live:
        reasons.append(f"the worker is {report.state}")
    return Verdict(not reasons, report.state, tuple(reasons), report.facts)


def _refuse_all_but_files(path: Path) -> None:
    """What is there must be a file: root could put one in the place of /dev/stdout."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))


def remove_file(path: Path) -> None:
    """No file is left to speak for a worker that is gone. Raises OSError."""
    _refuse_all_but_files(path)
    path.unlink(missing_ok=True)


def write_file(path: Path, hostname: str, report: Report, now: float) -> None:
    """Put the report where a probe finds it. The file's time is when the worker was last healthy. Raises OSError."""
    _refuse_all_but_files(path)
    before = None
    verdict = judge(report, now)
    if not verdict.ok:
        try:
            before = path.stat().st_mtime
        except FileNotFoundError:
            before = 0.0
    text = json.dumps({**verdict.to_plain(hostname), "report": report.to_plain()})
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_text(text + "\n", encoding="utf-8")
        if before is not None:
            os.utime(fresh, (before, before))
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def read_file(path: Path) -> tuple[str, Report]:
    """The node's name and its report. Raises OSError, or ValueError for what is no report."""
    _refuse_all_but_files(path)  # a device or a pipe would keep the probe for ever
    plain = json.loads(path.read_text("utf-8"))
    if not isinstance(plain, dict):
        raise ValueError("this is no report of a worker's health")
    return str(plain.get("hostname", "")), Report.from_plain(plain.get("report"))
