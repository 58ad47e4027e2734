"""Which leases are renewed when, so that one request carries ten of them."""

from __future__ import annotations

from collections.abc import Iterable

from pyqs_celery.broker.limits import BATCH_ENTRIES
from pyqs_celery.worker.core import leases
from pyqs_celery.worker.core.held import Held
from pyqs_celery.worker.core.ledger import Ledger
from pyqs_celery.worker.core.timers import Timers
from pyqs_celery.worker.core.values import Ack, Extended

NAP_SECONDS = 0.05
"""How long nobody may have looked at leases before all of them are looked at; a part of what ``leases.MARGIN`` leaves."""


class Renewals:
    """Watches the leases of everything in the ledger, up to SQS's limit of ``max_lease_seconds`` for one receipt."""

    def __init__(self, ledger: Ledger, timers: Timers, max_lease_seconds: float) -> None:
        self._ledger = ledger
        self._timers = timers
        self._max = max_lease_seconds
        self._due: list[Held] = []
        self._awake_at = 0.0

    def look_at(self, held: Held, now: float) -> None:
        """Its timer has come: renew, or see that it is too late."""
        if not held.keeps_lease:
            return
        if leases.is_over(held, now):
            self._ledger.lose_lease(held, "it ran out and could not be renewed")
        elif held.extending:
            return
        elif now - held.held_since + held.queue.lease_seconds > self._max:
            self._ledger.note("lease_limit", held, f"{self._max:.0f}")
            self._ask(held, now)  # nothing more is asked for; the end of the lease is still watched
        elif leases.renew_at(held) <= now:
            self._ask(held, now)
            self._due.append(held)

    def wake(self, now: float) -> None:
        """Lose what has run out, if nobody has looked for a while; timers see to the rest."""
        slept, self._awake_at = now - self._awake_at, now
        if slept > NAP_SECONDS and now >= self._ledger.soonest_end:
            # the last of a group first, as losing one gives back what is behind it
            for held in reversed(list(self._ledger)):
                self.has_lost(held, now)
            kept = (held.lease_until for held in self._ledger if held.keeps_lease)
            self._ledger.soonest_end = min(kept, default=float("inf"))

    def has_lost(self, held: Held, now: float) -> bool:
        """True if the lease is gone, which may not have been seen yet: this worker was stopped for a while, or is late."""
        if held.keeps_lease and leases.is_over(held, now):
            self._ledger.lose_lease(held, "it ran out before the worker looked again")
        return held.lease_lost

    def _ask(self, held: Held, now: float) -> None:
        held.extending, held.asked_at = True, now
        self._timers.add(held.lease_until, held.tag, "lease")

    def flush(self, now: float) -> None:
        """Ask for what is due, and for what soon will be if there is room in the last request."""
        due, self._due = [held for held in self._due if held.keeps_lease], []
        if not due:
            return
        if len(due) % BATCH_ENTRIES:
            queues = dict.fromkeys(held.queue.name for held in due)
            for held in (each for queue in queues for each in self._ledger.of_queue(queue)):
                if held.keeps_lease and not held.extending and leases.due_soon(held, now):
                    self._ask(held, now)
                    due.append(held)
        self._ledger.out.extend(leases.extensions(due))

    def on_extended(self, results: Iterable[Extended], now: float) -> None:
        """How the renewals ended."""
        for result in results:
            held = self._ledger.get(result.tag)
            if held is None:
                continue
            held.extending = False
            if result.ok:
                # the answer may have waited, in a worker that was stopped for a while: the lease began after the question
                held.lease_until = max(held.lease_until, held.asked_at + held.queue.lease_seconds)
                self._timers.add(leases.renew_at(held), held.tag, "lease")
            elif result.gone and isinstance(held.settlement, Ack):
                held.lease_lost = True  # it is deleted already, only the answer was lost: the next try will say so
            elif result.lost:
                self._ledger.lose_lease(held, result.detail)
            else:
                self._timers.add(leases.retry_at(held, now), held.tag, "lease")
