"""The threads and solo pools: consumer and children are threads of one process. Nothing is forked.

A thread cannot be killed: what runs past its hard time limit is given up, its message goes back, and a new thread
takes the slot.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable
from itertools import count
from typing import TYPE_CHECKING

from pyqs_celery.utils import aio
from pyqs_celery.worker.channel import ChildEnd
from pyqs_celery.worker.child import ChildLoop
from pyqs_celery.worker.config import WorkerConfig
from pyqs_celery.worker.fleet import Ending

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery

logger = logging.getLogger("celery.worker")


class ThreadFleet:
    """Threads in place of processes, over the same sockets; their ids are numbers of our own."""

    def __init__(self, app: Celery, config: WorkerConfig) -> None:
        self.app = app
        self.config = config
        self._numbers = count(1)
        self._endings: deque[Ending] = deque()
        self._channels: dict[int, socket.socket] = {}
        self._given_up: set[int] = set()
        self._wake: Callable[[], None] = lambda: None

    def on_end(self, wake: Callable[[], None]) -> None:
        """Remember how to wake the manager."""
        self._wake = wake

    def start_consumer(self, control: socket.socket, foreign: Iterable[socket.socket]) -> int:
        """Start the consumer's thread; its number."""
        from pyqs_celery.worker.consumer import consume

        own = socket.socket(fileno=control.detach())
        return self._start("consumer", lambda: consume(self.app, self.config, own), own)

    def start_child(self, number: int, channel: socket.socket, foreign: Iterable[socket.socket]) -> int:
        """Start a slot's thread; its number."""
        own = socket.socket(fileno=channel.detach())
        return self._start(f"ThreadPoolWorker-{number}", lambda: self._work(own), own)

    def start_beat(self, channel: socket.socket, foreign: Iterable[socket.socket]) -> int:
        """Start the beat's thread; its number."""
        from pyqs_celery.worker.embedded_beat import tick

        own = socket.socket(fileno=channel.detach())
        return self._start("beat", lambda: tick(self.app, self.config, own), own)

    def _work(self, channel: socket.socket) -> None:
        try:
            ChildLoop(self.app, self.config, ChildEnd(channel), is_process=False).run()
        except OSError:
            logger.debug("A thread's channel was closed while it worked")
        finally:
            aio.close()

    def _start(self, name: str, body: Callable[[], None], channel: socket.socket) -> int:
        ident = next(self._numbers)
        self._channels[ident] = channel

        def live() -> None:
            code = 1
            try:
                body()
                code = 0
            except Exception:  # a thread ends here, whatever it was; the manager starts another
                logger.critical("%s ended by an error", name, exc_info=True)
            finally:
                channel.close()
                self._channels.pop(ident, None)
                if ident not in self._given_up:
                    self._end(Ending(ident, code))

        threading.Thread(target=live, name=name, daemon=True).start()
        return ident

    def trouble(self, ident: int) -> str | None:
        """Threads are not stopped one by one; None."""
        return None

    def _end(self, ending: Ending) -> None:
        self._endings.append(ending)
        self._wake()

    def kill(self, ident: int, signum: int = signal.SIGKILL) -> None:
        """Give a thread up: it runs on, but nobody listens to it."""
        channel = self._channels.get(ident)
        if channel is None:
            return
        self._given_up.add(ident)
        try:
            channel.shutdown(socket.SHUT_RDWR)
        except OSError:
            logger.debug("A thread's channel was closed already")
        self._end(Ending(ident, 1))

    def ended(self) -> list[Ending]:
        """What has ended since the last call."""
        endings = []
        while self._endings:
            endings.append(self._endings.popleft())
        return endings
