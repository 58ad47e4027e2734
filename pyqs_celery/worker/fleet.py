"""What the manager needs of processes, which the pools implement."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

FROZEN = {"T": "is stopped", "t": "is stopped by a debugger", "Z": "has ended and is not reaped", "X": "is dead"}
"""States of a process in which it can do nothing (proc(5)); a busy one cannot be asked, but these can be seen."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process or thread ended. ``code`` is its exit code, ``signum`` the signal that killed it."""

    ident: int
    code: int | None = None
    signum: int | None = None

    @property
    def reason(self) -> str:
        """In Celery's words."""
        if self.signum:
            return f"signal {self.signum} ({signal.Signals(self.signum).name})"
        return f"exitcode {self.code}"


class Fleet(Protocol):
    """Starts and ends what the manager manages. ``foreign`` are sockets that the new process must not keep."""

    def start_consumer(self, control: socket.socket, foreign: Iterable[socket.socket]) -> int:
        """Start a consumer; its id."""
        ...

    def start_child(self, number: int, channel: socket.socket, foreign: Iterable[socket.socket]) -> int:
        """Start a child; its id. ``number`` is the first free one from 1 on, for its name."""
        ...

    def start_beat(self, channel: socket.socket, foreign: Iterable[socket.socket]) -> int:
        """Start a beat, which ends when the other end of ``channel`` is closed; its id."""
        ...

    def kill(self, ident: int, signum: int = signal.SIGKILL) -> None:
        """End it by force; its ending follows, unless it withstands ``signum``."""
        ...

    def ended(self) -> list[Ending]:
        """What has ended since the last call."""
        ...

    def trouble(self, ident: int) -> str | None:
        """Why it can do nothing at present (it is stopped, say), as far as can be seen; None if it can."""
        ...

    def on_end(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` when something ends, unless a signal says so anyway."""
        ...


def frozen(pid: int) -> str | None:
    """Why a process can do nothing at present, as far as the system tells (Linux); None if it can."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return None
    return FROZEN.get(state)
