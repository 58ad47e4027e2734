"""The children as the consumer knows them: their sockets, what they say, and how they are let go or killed."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Iterable, Iterator
from typing import Any

from pyqs_celery.worker.channel import ConsumerEnd, Control, FrameError, outcome_from_json
from pyqs_celery.worker.core.engine import WorkerCore

logger = logging.getLogger("celery.worker.consumer.consumer")


class Child:
    """One child.

    ``born`` is when the consumer got its socket (monotonic), ``has_spoken`` whether it has said anything, ``is_behind`` whether
    its socket has not taken all of its work yet.
    """

    def __init__(self, slot: int, pid: int, end: ConsumerEnd) -> None:
        self.slot = slot
        self.pid = pid
        self.end = end
        self.born = time.monotonic()
        self.has_spoken = False
        self.leaves = False
        self.is_behind = False


class Children:
    """Hands out work and tells the core what children say. ``control`` leads to the manager, who alone kills and reaps.

    ``managed`` becomes False when the manager is gone.
    """

    def __init__(self, core: WorkerCore, control: Control, selector: selectors.BaseSelector) -> None:
        self.managed = True
        self._core = core
        self._control = control
        self._selector = selector
        self._by_slot: dict[int, Child] = {}

    def __len__(self) -> int:
        return len(self._by_slot)

    def __contains__(self, slot: int) -> bool:
        return slot in self._by_slot

    def __iter__(self) -> Iterator[Child]:
        return iter(list(self._by_slot.values()))

    def pid(self, slot: int | None) -> int | None:
        """The process id of a slot's child."""
        child = self._by_slot.get(slot) if slot is not None else None
        return child.pid if child is not None else None

    # -- coming and going --------------------------------------------------------------------------

    def adopt(self, slot: int, pid: int, descriptor: int) -> None:
        """The manager has started a child."""
        child = Child(slot, pid, ConsumerEnd(socket.socket(fileno=descriptor)))
        self._by_slot[slot] = child
        self._selector.register(child.end.sock, selectors.EVENT_READ, child)

    def buried(self, slot: int, pid: int, reason: str) -> None:
        """The manager says that a child has ended; what it said last may still be unread."""
        child = self._by_slot.get(slot)
        if child is not None and child.pid == pid:
            while self._by_slot.get(slot) is child and child.end.has_more:
                self._listen(child)
            self._forget(child)
        self._core.on_slot_lost(slot, reason, time.time())

    def orphaned(self) -> None:
        """The manager is gone: nobody will say any more how children end."""
        self.managed = False
        for slot in self._core.busy_slots():
            if slot not in self._by_slot:
                self._core.on_slot_lost(slot, "its process ended", time.time())

    def retire(self, slots: Iterable[int]) -> None:
        """Let these go: the idle at once, the others when what they run has ended."""
        for slot in slots:
            child = self._by_slot.get(slot)
            if child is not None:
                child.leaves = True
                self._let_go_if_idle(child)

    def _let_go_if_idle(self, child: Child) -> None:
        if child.leaves and child.has_spoken and self._core.is_idle(child.slot):
            self._core.on_slot_retired(child.slot, time.time())
            self._forget(child)

    def close(self) -> None:
        """Close all sockets, which tells the children to leave."""
        for child in self:
            self._forget(child)

    def _forget(self, child: Child) -> None:
        if self._by_slot.get(child.slot) is child:
            del self._by_slot[child.slot]
            self._selector.unregister(child.end.sock)
            child.end.close()

    # -- work --------------------------------------------------------------------------------------

    def give(self, slot: int, work: tuple[Any, ...]) -> None:
        """Hand out work. To one that has died nothing is given: the manager's word on it follows, and settles the delivery.

        Raises ValueError for work that no frame can carry.
        """
        child = self._by_slot.get(slot)
        if child is not None and child.end.give(work):
            self._watch(child)

    def _watch(self, child: Child) -> None:
        if child.end.is_sending != child.is_behind:
            child.is_behind = child.end.is_sending
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if child.is_behind else 0)
            self._selector.modify(child.end.sock, wanted, child)

    def on_ready(self, child: Child, mask: int) -> None:
        """A child's socket takes more, or has something to read."""
        if self._by_slot.get(child.slot) is not child:
            return  # it was let go in the same turn of the loop
        if mask & selectors.EVENT_WRITE:
            child.end.push()
            self._watch(child)
        if mask & selectors.EVENT_READ:
            self._listen(child)

    def _listen(self, child: Child) -> None:
        """Take what a child says."""
        try:
            frames = child.end.read()
            for frame in frames or ():
                self._on_frame(child, frame)
        except FrameError as exc:
            logger.error("Child %d of slot %d said what is no report: %s; it is stopped", child.pid, child.slot, exc)
            self._request_kill(child)
            frames = None
        if frames is None:
            self._ended(child)

    def _on_frame(self, child: Child, frame: dict[str, Any]) -> None:
        now = time.time()
        if not child.has_spoken:
            child.has_spoken = True
            self._control.send({"up": child.slot, "pid": child.pid})
        if "outcome" in frame:
            self._core.on_outcome(child.slot, outcome_from_json(frame["outcome"]), now)
        if frame.get("ready"):
            self._core.on_slot_ready(child.slot, now)
        if frame.get("retire"):
            self._core.on_slot_retired(child.slot, now)
        self._let_go_if_idle(child)

    def _ended(self, child: Child) -> None:
        """Its socket is closed. If it was idle, its slot is simply gone; else the manager's word says why it died."""
        self._forget(child)
        if self._core.is_idle(child.slot):
            self._core.on_slot_retired(child.slot, time.time())
        elif not self.managed:
            self._core.on_slot_lost(child.slot, "its process ended", time.time())

    # -- killing -----------------------------------------------------------------------------------

    def kill(self, slot: int, signum: int | None) -> None:
        """End a child: by ``signum``, which its task may handle, or by SIGKILL."""
        child = self._by_slot.get(slot)
        if child is not None:
            if signum is not None:
                child.end.announce_end()
            self._request_kill(child, signum)

    def _request_kill(self, child: Child, signum: int | None = None) -> None:
        wish = {"kill": child.slot, "pid": child.pid, "signum": signum or signal.SIGKILL}
        if not self.managed or not self._control.send(wish):
            os.kill(child.pid, signal.SIGKILL)
