"""Delays that grow and are never the same twice."""

from __future__ import annotations

from collections.abc import Callable
from random import random as system_random

FIRST_SECONDS = 0.2
MOST_SECONDS = 20.0
SOON_SECONDS = 5.0
"""The longest wait for what may be over at any moment: SQS away, a permission or a queue missing. Work is taken up again
within this time. Only to SQS's own wish for fewer requests more is given."""


def backoff(
    attempt: int,
    *,
    first: float = FIRST_SECONDS,
    most: float = MOST_SECONDS,
    random: Callable[[], float] = system_random,
) -> float:
    """Seconds to wait after failure number ``attempt`` (from 1): doubled each time up to ``most``, between half and all of it."""
    full = min(most, first * 2 ** min(attempt - 1, 30))
    return float(full * (0.5 + random() / 2))


def longest_wait(*, throttled: bool) -> float:
    """``most`` of a backoff after what SQS answered, or did not."""
    return MOST_SECONDS if throttled else SOON_SECONDS
