"""How many messages the worker may take: enough to keep the slots busy, never what another worker could run.

The buffer beyond the slots is measured, not guessed: while tasks take milliseconds it holds enough for receives of
ten, and for tasks of a second or more it is empty, so that nothing waits here which a free slot elsewhere could run.
"""

from __future__ import annotations

from pyqs_celery.worker.core.values import CoreConfig

BATCH = 10
"""The most messages one ReceiveMessage returns (AWS: ReceiveMessage)."""
SMOOTHING = 0.2
HORIZON_SECONDS = 1.0
BUFFER_FLOOR = 20


class RuntimeEstimate:
    """A moving mean of how long tasks occupy a slot, in seconds."""

    def __init__(self) -> None:
        self.mean: float | None = None

    def add(self, seconds: float) -> None:
        """Take one more measurement into the mean."""
        seconds = max(0.0, seconds)
        self.mean = seconds if self.mean is None else self.mean + SMOOTHING * (seconds - self.mean)


def capacity(config: CoreConfig, mean_runtime: float | None) -> int:
    """The most deliveries to hold at once: the slots and a buffer."""
    slots = config.concurrency
    if config.simple or config.prefetch_multiplier == 1:
        return slots
    if config.prefetch_multiplier == 0:
        return config.max_held
    if config.prefetch_multiplier is not None:
        return min(config.max_held, slots * config.prefetch_multiplier)
    if mean_runtime is None or mean_runtime >= HORIZON_SECONDS:
        return slots
    most = max(BUFFER_FLOOR, 4 * slots)
    wanted = most if mean_runtime <= 0 else int(slots * HORIZON_SECONDS / mean_runtime)
    return min(config.max_held, slots + min(most, wanted))


def wanted(*, capacity: int, slots: int, in_hand: int, queue_in_hand: int, queue_ready: int) -> int:
    """How many messages to ask one queue for now; 0 means do not poll.

    Full batches are waited for while there is still work ready; a queue of which nothing is in hand may always ask for
    one as long as there is a buffer or a free slot, so a busy queue cannot shut out a quiet one.
    """
    free = capacity - in_hand
    if free >= BATCH:
        return BATCH
    if queue_ready == 0 and free > 0:
        return free
    if queue_in_hand == 0 and capacity > slots:
        return 1
    return 0
