"""What the consumer knows of its own health, as fuses. Pure: told what happens, asked now and then.

Every queue must complete a poll within a minute. One that is not asked is excused while it has messages in hand here,
and all are while every slot is busy; then the leases of what runs must be kept instead. (A short lease is renewed more
often than it is reported, so it counts as kept until the report after the next.)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from pyqs_celery.worker.health import HANGS_SECONDS, POLL_SECONDS, REPORT_EVERY_SECONDS, SILENCE_SECONDS, Fuse


@dataclass(frozen=True, slots=True)
class Lease:
    """The lease of a task that runs: how long it holds, and whether it was lost already."""

    task_id: str
    until: float
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Sight:
    """What the core shows. ``untouched`` are queues of which nothing is in hand; ``leases`` those that must be kept."""

    slots: int = 0
    idle: int = 0
    untouched: frozenset[str] = frozenset()
    forbidden: frozenset[str] = frozenset()
    leases: tuple[Lease, ...] = ()

    @property
    def is_saturated(self) -> bool:
        """True while every slot is busy."""
        return self.slots > 0 and self.idle == 0


@dataclass(slots=True)
class _Watch:
    """One queue. ``owed`` is since when a poll must complete, ``asked`` since when the present one is open."""

    owed: float | None = None
    asked: float | None = None
    unasked: float | None = None
    error: str = ""


@dataclass(slots=True)
class Vitals:
    """Told of every poll. Instants are of one clock, whichever the caller's."""

    _queues: dict[str, _Watch] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._queues)

    def serve(self, queues: Collection[str]) -> None:
        """Watch exactly these queues from now on."""
        self._queues = {name: self._queues.get(name) or _Watch() for name in queues}

    def asked(self, queue: str, now: float) -> None:
        """A poll begins."""
        watch = self._queues.setdefault(queue, _Watch())
        watch.asked = now
        watch.owed = now if watch.owed is None else watch.owed
        watch.unasked = None

    def answered(self, queue: str, error: str | None, now: float) -> None:
        """It has completed, or failed with ``error``."""
        watch = self._queues.get(queue)
        if watch is None:
            return
        watch.asked = None
        watch.error = error or ""
        if error is None:
            watch.owed = None

    def fuses(self, sight: Sight, now: float) -> Iterable[Fuse]:
        """What is wrong, or will be unless something happens."""
        for name, watch in self._queues.items():
            if name in sight.forbidden:
                yield Fuse(now, f"queue {name}: SQS refuses to delete messages; allow sqs:DeleteMessage on it")
                continue
            waits = watch.asked is None and name in sight.untouched and not sight.is_saturated and sight.slots > 0
            watch.unasked = (watch.unasked or now) if waits else None
            if watch.asked is not None:
                yield Fuse(
                    watch.asked + HANGS_SECONDS, f"queue {name}: a poll hangs without success or failure", curable=True
                )
            since = watch.owed if watch.owed is not None else watch.unasked
            if since is not None and not sight.is_saturated:
                why = f" ({watch.error})" if watch.error else ""
                yield Fuse(since + POLL_SECONDS, f"queue {name}: no poll has completed in {POLL_SECONDS:.0f} s{why}")
        if sight.is_saturated:
            for lease in sight.leases:
                ends = now if lease.lost or lease.until <= now else max(lease.until, now + 2 * REPORT_EVERY_SECONDS)
                yield Fuse(ends, f"the lease of task {lease.task_id} was not kept")


def unheard(slot: int, pid: int, born: float) -> Fuse:
    """A child that has said nothing yet."""
    reason = f"child {pid} of slot {slot} has not been ready {SILENCE_SECONDS:.0f} s after its start"
    return Fuse(born + SILENCE_SECONDS, reason, curable=True)
