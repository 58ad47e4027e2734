"""The prefork pool: the consumer and each child are processes, forked by the manager."""

from __future__ import annotations

import faulthandler
import logging
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from pyqs_celery import signals
from pyqs_celery.worker.channel import ChildEnd
from pyqs_celery.worker.child import work
from pyqs_celery.worker.config import WorkerConfig
from pyqs_celery.worker.fleet import Ending, frozen
from pyqs_celery.worker.manager import HANDLED

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery

logger = logging.getLogger("celery.worker")
SENT_TO_GROUPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
"""Terminals and supervisors send these to every process of a worker, but the manager decides what stops when."""


class ForkFleet:
    """Processes by ``fork``. The manager alone forks, kills and reaps, so a process id is never somebody else's."""

    def __init__(self, app: Celery, config: WorkerConfig) -> None:
        self.app = app
        self.config = config

    def start_consumer(self, control: socket.socket, foreign: Iterable[socket.socket]) -> int:
        """Fork the consumer; its process id."""
        from pyqs_celery.worker.consumer import consume

        return self._fork("MainProcess", foreign, lambda: consume(self.app, self.config, control))

    def start_child(self, number: int, channel: socket.socket, foreign: Iterable[socket.socket]) -> int:
        """Fork a child; its process id."""
        signals.worker_before_create_process.send(sender=self)
        return self._fork(f"ForkPoolWorker-{number}", foreign, lambda: self._work(ChildEnd(channel)))

    def _work(self, channel: ChildEnd) -> None:
        for signum in SENT_TO_GROUPS:
            signal.signal(signum, lambda number, _: _end_if_meant(channel, number))
        try:
            work(self.app, self.config, channel)
        except SystemExit as exc:
            # 0 says that a child was replaced in good order, so no hook may end it with that
            raise SystemExit(exc.code or 1) from exc

    def start_beat(self, channel: socket.socket, foreign: Iterable[socket.socket]) -> int:
        """Fork the beat; its process id."""
        from pyqs_celery.worker.embedded_beat import tick

        return self._fork("Beat", foreign, lambda: tick(self.app, self.config, channel))

    def _fork(self, name: str, foreign: Iterable[socket.socket], body: Callable[[], None]) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            _live(name, foreign, body)
        return pid

    def kill(self, ident: int, signum: int = signal.SIGKILL) -> None:
        """Send a signal. The process has not been reaped, so its id is still its own."""
        os.kill(ident, signum)

    def ended(self) -> list[Ending]:
        """Reap what has ended."""
        endings: list[Ending] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return endings
            if pid == 0:
                return endings
            code = os.waitstatus_to_exitcode(status)
            endings.append(Ending(pid, code) if code >= 0 else Ending(pid, signum=-code))

    def trouble(self, ident: int) -> str | None:
        """Why a process can do nothing at present; None if it can."""
        return frozen(ident)

    def on_end(self, wake: Callable[[], None]) -> None:
        """SIGCHLD wakes the manager."""


def _live(name: str, foreign: Iterable[socket.socket], body: Callable[[], None]) -> NoReturn:
    """The life of a forked process: never returns into the manager's code."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for signum in HANDLED:
            signal.signal(signum, _leave_it_to_the_manager)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        faulthandler.register(signal.SIGUSR1, all_threads=True)
        for sock in foreign:
            sock.close()
        multiprocessing.current_process().name = name
        body()
        code = 0
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else 1
    except BaseException:  # the process ends here, whatever it was
        logger.critical("%s ended by an error", name, exc_info=True)
    finally:
        _flush()
        os._exit(code)


def _flush() -> None:
    for stream in (sys.__stdout__, sys.__stderr__):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):  # closed, or its reader is gone: there is nobody left to tell
            continue


def _end_if_meant(channel: ChildEnd, signum: int) -> None:
    """A child ends by such a signal if the consumer has announced it: its task is to be terminated."""
    if channel.is_addressed():
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)


def _leave_it_to_the_manager(signum: int, frame: FrameType | None) -> None:
    """A signal to the whole process group reaches the manager too, and it decides what stops when."""
