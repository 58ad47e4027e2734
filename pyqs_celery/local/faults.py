"""Trouble on request: answers that are late, refused, lost or never come."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

KINDS = {
    "500": (500, "InternalFailure"),
    "503": (503, "ServiceUnavailable"),
    "throttle": (400, "RequestThrottled"),
    "403": (403, "AccessDenied"),
    "expired": (403, "ExpiredToken"),
    "missing": (400, "QueueDoesNotExist"),
}
"""Kinds that are answered with an error. The others: ``reset`` (connection reset before the work), ``reset_after`` (after
it, the duplicate maker) and ``timeout`` (never answered)."""


@dataclass(slots=True)
class Fault:
    """One rule: ``action`` (``*`` for all) on ``queue`` (None: all) goes wrong in ``rate`` of cases, ``count`` times at most."""

    kind: str
    action: str = "*"
    rate: float = 1.0
    until: float | None = None
    count: int | None = None
    queue: str | None = None

    @classmethod
    def from_json(cls, value: dict[str, Any], now: float) -> Fault:
        """Read a rule as the admin interface takes it; ``seconds`` is how long it holds."""
        seconds = value.get("seconds")
        return cls(
            str(value["kind"]),
            value.get("action", "*"),
            float(value.get("rate", 1.0)),
            now + seconds if seconds else None,
            value.get("count"),
            value.get("queue"),
        )

    def strikes(self, action: str, queue: str, now: float) -> bool:
        """True if this request shall go wrong; counts down."""
        if self.action not in ("*", action) or (self.queue is not None and self.queue != queue):
            return False
        if (self.until is not None and now > self.until) or self.count == 0 or random.random() >= self.rate:
            return False
        if self.count is not None:
            self.count -= 1
        return True
