"""The consumer's reports to the manager, who answers probes with the last one."""

from __future__ import annotations

import time
from collections.abc import Iterable

from pyqs_celery.worker.channel import Control
from pyqs_celery.worker.children import Child
from pyqs_celery.worker.core.engine import WorkerCore
from pyqs_celery.worker.core.held import Held
from pyqs_celery.worker.core.snapshot import View
from pyqs_celery.worker.health import REPORT_EVERY_SECONDS, Fuse, Report, soonest
from pyqs_celery.worker.vitals import Lease, Sight, Vitals, unheard


class Reporter:
    """Reports every few seconds, and at once when the worker's state changes.

    ``state`` is starting, ready or stopping. ``missing`` is a sentence while a queue that was named is not served.
    """

    def __init__(self, core: WorkerCore, control: Control, children: Iterable[Child]) -> None:
        self.vitals = Vitals()
        self.missing = ""
        self._core = core
        self._control = control
        self._children = children
        self._state = "starting"
        self._due = 0.0

    def turn(self, state: str) -> None:
        """The worker's state is another."""
        if state != self._state:
            self._state, self._due = state, 0.0

    def next_due(self) -> float:
        """When ``look`` is to be called (epoch seconds)."""
        return self._due

    def look(self, now: float) -> None:
        """Report if it is time to. To a manager that does not read, reports are not piled up."""
        if now < self._due:
            return
        self._due = now + REPORT_EVERY_SECONDS
        if not self._control.is_sending:
            self._control.send({"report": self._report(now).to_plain()})

    def close(self) -> None:
        """Nothing is left open."""

    def _report(self, now: float) -> Report:
        present = time.monotonic()
        sight = sight_of(self._core.view, now, self._core.config.max_lease_seconds, self._core.config.open_polls)
        by_epoch = list(self.vitals.fuses(sight, now))
        fuses = [Fuse(fuse.at - now + present, fuse.reason, fuse.curable) for fuse in by_epoch]
        fuses += [unheard(each.slot, each.pid, each.born) for each in self._children if not each.has_spoken]
        if self.missing:
            fuses.append(Fuse(present, self.missing))
        facts = {"slots": sight.slots, "busy": sight.slots - sight.idle, "queues": len(self.vitals)}
        return Report(present, self._state, soonest(fuses), facts)


def sight_of(view: View, now: float, max_lease_seconds: float, open_polls: int | None = None) -> Sight:
    """What of a core bears on its health. A receipt's twelve hours end whatever anybody does: they are no sign of illness."""
    queues, top = view.queues, view.queues.top_rank_in_hand
    takes_turns = open_polls is not None and queues.polls.number >= open_polls
    running = [view.ledger.get(tag) for _, tag in view.slots.running()]
    return Sight(
        slots=len(view.slots),
        idle=view.slots.idle,
        untouched=frozenset(
            name
            for name in queues.names
            if not takes_turns and not queues.in_hand(name) and queues.policy(name).rank >= top
        ),
        forbidden=queues.rests.forbidden,
        leases=tuple(
            Lease(held.task_id, held.lease_until, held.lease_lost)
            for held in running
            if held is not None
            and _needs_lease(held)
            and now - held.held_since + held.queue.lease_seconds <= max_lease_seconds
        ),
    )


def _needs_lease(held: Held) -> bool:
    return not held.acked_early or held.waits_for_ack
