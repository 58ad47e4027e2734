"""``rate_limit``: when a delivery of a task that may start only so often gets its turn.

A bucket of one token for each task. Turns are given out up to a horizon; whoever would wait longer gets no turn but a
hint when to ask again, so that a far turn holds neither a slot nor a lease.
"""

from __future__ import annotations

from dataclasses import dataclass

HINT_MOST_SECONDS = 900.0
"""Beyond what a hop can wait there is nothing to spread."""


@dataclass(slots=True)
class _Bucket:
    next_turn: float = 0.0
    next_hint: float = 0.0


@dataclass(frozen=True, slots=True)
class Turn:
    """``at`` is when to start, or, if it is not ``granted``, when to ask again (epoch seconds)."""

    granted: bool
    at: float


class RateLimits:
    """The buckets of one worker, by task."""

    def __init__(self) -> None:
        self._buckets: dict[str, _Bucket] = {}

    def ask(self, task: str, per_second: float, now: float, horizon: float) -> Turn:
        """The next turn of ``task``, which may start ``per_second`` times a second."""
        bucket = self._buckets.setdefault(task, _Bucket())
        turn = max(now, bucket.next_turn)
        if turn - now <= horizon:
            bucket.next_turn = turn + 1.0 / per_second
            return Turn(True, turn)
        hint = max(turn, bucket.next_hint)
        if hint - now > HINT_MOST_SECONDS:
            hint = turn
        bucket.next_hint = hint + 1.0 / per_second
        return Turn(False, hint)
