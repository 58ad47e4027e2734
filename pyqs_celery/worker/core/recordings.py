"""Deliveries that ended outside of a child, and the child that is to record each of them before it is settled.

Results, errbacks and chords need the arguments, and only a child opens those. So a child gets such a delivery once more,
with its fault. What was decided about the message is carried out after that, however the recording went: nothing is
recorded twice, and nothing waits for ever.
"""

from __future__ import annotations

from collections import deque

from pyqs_celery.worker.core.disposition import Verdict
from pyqs_celery.worker.core.held import Held
from pyqs_celery.worker.core.ledger import Ledger
from pyqs_celery.worker.core.slots import Slots
from pyqs_celery.worker.core.timers import Timers
from pyqs_celery.worker.core.values import Dispatch, Fault

RECORDING_SECONDS = 120.0
"""How long a child may take over it: a few calls of a result store, and the errbacks."""


class Recordings:
    """They go before everything that is ready, and in the order in which they ended."""

    def __init__(self, ledger: Ledger, slots: Slots, timers: Timers) -> None:
        self._ledger = ledger
        self._slots = slots
        self._timers = timers
        self._waiting: deque[Held] = deque()

    def add(self, held: Held, fault: Fault, fate: Verdict) -> None:
        """Have ``fault`` recorded, then do as ``fate`` says."""
        self._ledger.keep_unrecorded(held, fault, fate)
        self._waiting.append(held)

    def dispatch(self, now: float) -> None:
        """Give them to idle children."""
        while self._waiting and self._slots.idle:
            held = self._waiting.popleft()
            assert held.head is not None
            held.slot = self._slots.take(held.tag)
            held.killed_for, held.kill_at = None, now + RECORDING_SECONDS
            self._ledger.start(held, now)
            self._timers.add(held.kill_at, held.tag, "kill")
            self._ledger.out.append(
                Dispatch(held.slot, held.tag, held.delivery, held.head, last=True, last_timeout=True, fault=held.fault)
            )

    def give_up(self) -> None:
        """No child will be there for them: settle them unrecorded."""
        while self._waiting:
            self.end(self._waiting.popleft())

    def end(self, held: Held) -> None:
        """It is recorded, or cannot be."""
        assert held.fate is not None
        self._ledger.finish(held, held.fate)
