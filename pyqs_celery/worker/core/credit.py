"""How many messages the worker may take: enough to keep the slots busy, never what another worker could run.

The buffer beyond the slots is measured, not guessed: while tasks take milliseconds it holds enough for receives of
ten, and for tasks of a second or more it is empty, so that nothing waits here which a free slot elsewhere could run.
"""

from __future__ import annotations

from pyqs_celery.broker.limits import BATCH_ENTRIES
from pyqs_celery.worker.core.values import CoreConfig

SMOOTHING = 0.2
HORIZON_SECONDS = 1.0
TURN_SECONDS = 0.05
BUFFER_FLOOR = 20
PATIENCE_SECONDS = 5.0
"""How long a message may wait here for a slot before it goes back: it was fetched in the belief that tasks are short."""
BODY_BYTES_MOST = 32 * 1024 * 1024
"""How much message text to hold beyond what runs; how large messages are is learnt from those that came."""
BATCH_BYTES_MOST = 1024 * 1024
"""A receive that brings more text than this is a load for the memory by itself; several are not made at once."""
UNSETTLED_MOST = 100
"""How many messages of a queue may wait to be deleted, released or sent again before no more of it are received."""


class MovingMean:
    """A moving mean: of how long tasks occupy a slot, in seconds, or of how large messages are."""

    def __init__(self) -> None:
        self.mean: float | None = None

    def add(self, measured: float) -> None:
        """Take one more measurement into the mean."""
        measured = max(0.0, measured)
        self.mean = measured if self.mean is None else self.mean + SMOOTHING * (measured - self.mean)

    def add_at_least(self, measured: float) -> None:
        """It has turned out to be no less than this."""
        self.mean = max(measured, self.mean or 0.0)


def is_adaptive(config: CoreConfig) -> bool:
    """True if how much is held is measured; else somebody has said how much."""
    return config.prefetch_multiplier is None and not config.simple


def capacity(config: CoreConfig, mean_runtime: float | None, mean_bytes: float | None = None) -> int:
    """The most deliveries to hold at once: the slots and a buffer, which large messages make smaller."""
    slots = config.concurrency
    return min(config.max_held, slots + min(_buffer(config, mean_runtime), _fitting(mean_bytes)))


def _buffer(config: CoreConfig, mean_runtime: float | None) -> int:
    slots = config.concurrency
    if config.simple or config.prefetch_multiplier == 1:
        return 0
    if config.prefetch_multiplier == 0:
        return config.max_held
    if config.prefetch_multiplier is not None:
        return slots * (config.prefetch_multiplier - 1)
    if mean_runtime is None or mean_runtime >= HORIZON_SECONDS:
        return 0
    most = max(BUFFER_FLOOR, 4 * slots)
    wanted = most if mean_runtime <= 0 else int(slots * HORIZON_SECONDS / mean_runtime)
    return min(most, wanted)


def at_once(config: CoreConfig, mean_runtime: float | None, mean_bytes: float | None, queues: int) -> int:
    """How many messages each of so many queues is asked for while nothing of it is in hand: 1 to 10.

    One, as any of them may be of a long task; but while tasks are short, a queue's part of what the slots run in a second. So
    messages of many queues come and are deleted in tens, too.
    """
    if not is_adaptive(config) or mean_runtime is None or mean_runtime >= HORIZON_SECONDS:
        return 1
    most = min(_held_in_all(config, queues), _fitting(mean_bytes))
    if mean_runtime > 0:
        most = min(most, int(config.concurrency * HORIZON_SECONDS / mean_runtime))
    return max(1, min(BATCH_ENTRIES, most // max(1, queues)))


def in_a_row(config: CoreConfig, mean_runtime: float | None) -> int:
    """How many messages of one queue run before it is another's turn: as many as take no time worth speaking of, up to 10.

    They are then deleted in one request.
    """
    if mean_runtime is None:
        return 1
    if mean_runtime <= 0:
        return BATCH_ENTRIES
    return max(1, min(BATCH_ENTRIES, int(config.concurrency * TURN_SECONDS / mean_runtime)))


def own_buffer(buffer: int, limit: int, mean_runtime: float | None) -> int:
    """How much of ``buffer`` a queue may have that has a limit of slots: what it runs in a second, once that is known."""
    if mean_runtime is None or mean_runtime >= HORIZON_SECONDS:
        return 0
    return buffer if mean_runtime <= 0 else min(buffer, int(limit * HORIZON_SECONDS / mean_runtime))


def _fitting(mean_bytes: float | None) -> int:
    return int(BODY_BYTES_MOST / max(1.0, mean_bytes or 1.0))


def brings_little(mean_bytes: float | None) -> bool:
    """True if messages are small enough for several receives at once."""
    return BATCH_ENTRIES * (mean_bytes or 0.0) <= BATCH_BYTES_MOST


def held_most(config: CoreConfig, mean_bytes: float | None, queues: int) -> int:
    """The most deliveries to hold at once with those that are being deleted, released or moved."""
    return min(_held_in_all(config, queues), config.concurrency + 2 * _fitting(mean_bytes))


def _held_in_all(config: CoreConfig, queues: int) -> int:
    """``max_held``, or a full receive of each queue if that is more: else many queues would be emptied in small portions."""
    return max(config.max_held, BATCH_ENTRIES * queues)


def wanted(
    *,
    capacity: int,
    slots: int,
    in_hand: int,
    queue_in_hand: int,
    queue_ready: int,
    reserved: int,
    is_quiet: bool,
    stuck: int = 0,
    at_once: int = 1,
) -> int:
    """How many messages to ask one queue for now; 0 means do not poll.

    Full batches are waited for while there is still work ready. A queue of which nothing is ready asks for no less than
    ``at_once``, and if nothing of it is in hand it may always ask as long as there is a buffer or a free slot, so a busy queue
    cannot shut out a quiet one.

    As every queue has a poll of its own, what they bring together may be more than there is room for: by ``at_once`` for
    each queue. A quiet one, of several and whose last poll brought nothing, asks for as many; the others leave ``reserved``,
    which polls of the last moment may still bring.

    ``stuck`` is how much of what is in hand cannot take a slot yet, though there is one. It leaves that slot to others.
    """
    free = max(capacity - in_hand, slots - (in_hand - stuck))
    if free > 0:
        free = at_once if is_quiet else max(1, free - reserved)
    if free >= BATCH_ENTRIES:
        return BATCH_ENTRIES
    if queue_ready == 0 and free > 0:
        return max(free, at_once)
    if queue_in_hand == 0 and capacity > slots:
        return at_once
    return 0
