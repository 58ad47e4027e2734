"""One connection that hears of results as they are stored, for all threads of a process.

Whoever waits is told of its own channels. One of the waiting threads reads for all of them; when it leaves, the next one
does. The connection is only touched under the lock, and the wait for its socket is outside of it, so that others can
subscribe meanwhile.
"""

from __future__ import annotations

import contextlib
import selectors
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

MOST_WAIT_SECONDS = 1.0
"""How long one wait for the socket lasts: another thread may have replaced it."""
REST_OF_A_MESSAGE_SECONDS = 10.0
CONFIRM_SECONDS = 10.0


class Watch:
    """What one caller waits for. ``lost`` is True while messages may have been missed, so that it looks by itself."""

    def __init__(self, channels: Iterable[bytes]) -> None:
        self.channels = frozenset(channels)
        self.lost = True
        self._news: deque[tuple[bytes, Any]] = deque()

    @property
    def has_news(self) -> bool:
        """True if something was published since the last ``take``."""
        return bool(self._news)

    def take(self) -> list[tuple[bytes, Any]]:
        """(channel, data) of what was published since the last call."""
        found = []
        with contextlib.suppress(IndexError):
            while True:
                found.append(self._news.popleft())
        return found


class Subscription:
    """A ``PubSub`` of Redis's client, made by ``connect`` when it is first needed and after ``errors``."""

    def __init__(self, connect: Callable[[], Any], errors: tuple[type[BaseException], ...]) -> None:
        self._connect = connect
        self._errors = errors
        self._pubsub: Any = None
        # not reentrant: the garbage collector may end a watch in the middle of anything
        self._lock = threading.Lock()
        self._turn = threading.Condition(self._lock)
        self._reading = False
        self._watches: dict[bytes, set[Watch]] = {}
        self._sent: set[bytes] = set()
        self._unconfirmed: Counter[bytes] = Counter()
        self._ended: deque[Watch] = deque()

    @contextlib.contextmanager
    def watch(self, channels: Iterable[bytes]) -> Iterator[Watch]:
        """A watch that ends with the block. It hears nothing before ``confirm``."""
        watch = Watch(channels)
        with self._turn:
            for channel in watch.channels:
                self._watches.setdefault(channel, set()).add(watch)
        try:
            yield watch
        finally:
            self._ended.append(watch)
            if self._lock.acquire(blocking=False):
                try:
                    self._unsubscribe_ended()
                finally:
                    self._lock.release()

    def confirm(self, watch: Watch) -> None:
        """Have Redis confirm all channels of a watch: what is published from now on is heard.

        Raises ``errors``, ConnectionError among them, if it does not.
        """
        with self._turn:
            self._subscribe(watch.channels)
            watch.lost = False
        self._wait_until(lambda: watch.lost or self._is_confirmed(watch), CONFIRM_SECONDS)
        if not watch.lost and not self._is_confirmed(watch):
            self.drop()
        if watch.lost:
            raise ConnectionError("Redis did not confirm a subscription")

    def wait(self, watch: Watch, seconds: float) -> None:
        """Until there is news for a watch, or it is lost; for so many seconds at most, 0 takes what has arrived."""
        self._wait_until(lambda: watch.has_news or watch.lost, seconds)

    def drop(self) -> None:
        """Give the connection up; all watches are lost."""
        with self._turn:
            self._drop()

    # -- under the lock ----------------------------------------------------------------------------

    def _is_confirmed(self, watch: Watch) -> bool:
        return watch.channels <= self._sent and not any(channel in self._unconfirmed for channel in watch.channels)

    def _subscribe(self, channels: Iterable[bytes]) -> None:
        self._unsubscribe_ended()
        wanted = [channel for channel in channels if channel not in self._sent]
        if not wanted:
            return
        try:
            if self._pubsub is None:
                self._pubsub = self._connect()
            self._pubsub.subscribe(*wanted)
        except BaseException:
            self._drop()
            raise
        self._sent.update(wanted)
        self._unconfirmed.update(wanted)

    def _unsubscribe_ended(self) -> None:
        gone = []
        while self._ended:
            watch = self._ended.popleft()
            for channel in watch.channels:
                others = self._watches.get(channel, set())
                others.discard(watch)
                if not others:
                    self._watches.pop(channel, None)
                    gone.append(channel)
        gone = [channel for channel in gone if channel in self._sent]
        self._sent.difference_update(gone)
        if gone:
            try:
                self._pubsub.unsubscribe(*gone)
            except self._errors:
                self._drop()

    def _drop(self) -> None:
        pubsub, self._pubsub = self._pubsub, None
        self._sent.clear()
        self._unconfirmed.clear()
        for watches in self._watches.values():
            for watch in watches:
                watch.lost = True
        self._turn.notify_all()
        if pubsub is not None:
            with contextlib.suppress(Exception):
                pubsub.close()

    def _wait_until(self, enough: Callable[[], bool], seconds: float) -> None:
        until = time.monotonic() + seconds
        with self._turn:
            left = seconds
            while not enough() and left >= 0:
                left = until - time.monotonic()
                if self._reading and left <= 0:
                    return
                if self._reading:
                    self._turn.wait(left)
                    continue
                self._reading = True
                try:
                    self._read(max(0.0, left))
                finally:
                    self._reading = False
                    self._turn.notify_all()

    def _read(self, seconds: float) -> None:
        self._unsubscribe_ended()
        pubsub = self._pubsub
        if pubsub is None or pubsub.connection is None:
            self._drop()
            return
        try:
            if self._take_all(pubsub):
                return
            socket = getattr(pubsub.connection, "_sock", None)
            if socket is None:
                self._turn.wait(min(seconds, 0.1))
                readable = True
            else:
                self._lock.release()
                try:
                    readable = _readable(socket, min(seconds, MOST_WAIT_SECONDS))
                finally:
                    self._lock.acquire()
            if readable and self._pubsub is pubsub:
                self._take_all(pubsub)
        except self._errors:
            if self._pubsub is pubsub:
                self._drop()

    def _take_all(self, pubsub: Any) -> bool:
        """Hand out all that has arrived; True if there was something."""
        found = False
        while self._pubsub is pubsub and pubsub.subscribed and pubsub.connection.can_read(timeout=0):
            found = True
            message = pubsub.get_message(timeout=REST_OF_A_MESSAGE_SECONDS)
            if message is not None:
                self._hand_out(message["type"], message["channel"], message["data"])
        return found

    def _hand_out(self, kind: str, channel: Any, data: Any) -> None:
        channel = channel.encode("utf-8") if isinstance(channel, str) else channel
        if kind == "message":
            for watch in self._watches.get(channel, ()):
                watch._news.append((channel, data))
        elif kind == "subscribe":
            if self._unconfirmed[channel] > 1:
                self._unconfirmed[channel] -= 1
            elif channel in self._unconfirmed:
                del self._unconfirmed[channel]
            else:  # Redis's client has connected again by itself, and nobody knows what was published meanwhile
                for watch in self._watches.get(channel, ()):
                    watch.lost = True


def _readable(socket: Any, seconds: float) -> bool:
    try:
        # looked up at each call, so that gevent's is found
        with selectors.DefaultSelector() as selector:
            selector.register(socket, selectors.EVENT_READ)
            return bool(selector.select(seconds))
    except (OSError, ValueError):  # closed meanwhile
        return True
