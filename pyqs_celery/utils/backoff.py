"""Delays that grow and are never the same twice."""

from __future__ import annotations

from collections.abc import Callable
from random import random as system_random

FIRST_SECONDS = 0.2
MOST_SECONDS = 20.0


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
