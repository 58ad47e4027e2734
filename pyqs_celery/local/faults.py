"""Trouble on request: answers that are late, refused, slow, half true, lost, or never come."""

from __future__ import annotations

import random
from collections.abc import Callable
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
"""Kinds that are answered with an error, the work undone."""
UNANSWERED = ("reset", "timeout")
"""Connection reset, or no answer ever; the work is undone."""
ANSWERED = ("reset_after", "slow_body", "partial", "partial_after")
"""The work is done and the answer lost; the answer's body takes ``body_seconds``; entries of a batch fail and are not
done; entries of a batch fail and are done all the same."""


@dataclass(slots=True)
class Fault:
    """One rule: ``action`` (``*`` for all) on ``queue`` (None: all) goes wrong in ``rate`` of cases, ``count`` times at most.

    ``entries`` are the places in a batch that fail (None: all), with ``code`` and ``sender_fault``.
    """

    kind: str
    action: str = "*"
    rate: float = 1.0
    until: float | None = None
    count: int | None = None
    queue: str | None = None
    body_seconds: float = 30.0
    entries: tuple[int, ...] | None = None
    code: str = "InternalError"
    sender_fault: bool = False

    @classmethod
    def from_json(cls, value: dict[str, Any], now: float) -> Fault:
        """Read a rule as the admin interface takes it; ``seconds`` is how long it holds. Raises ValueError."""
        kind = str(value["kind"])
        if kind not in KINDS and kind not in UNANSWERED and kind not in ANSWERED:
            raise ValueError(f"no such kind of fault: {kind}")
        seconds, entries = value.get("seconds"), value.get("entries")
        return cls(
            kind,
            value.get("action", "*"),
            float(value.get("rate", 1.0)),
            now + seconds if seconds else None,
            value.get("count"),
            value.get("queue"),
            float(value.get("body_seconds", 30.0)),
            tuple(entries) if entries is not None else None,
            str(value.get("code", "InternalError")),
            bool(value.get("sender_fault", False)),
        )

    @property
    def is_partial(self) -> bool:
        """True for the kinds that only a batch can have."""
        return self.kind in ("partial", "partial_after")

    def strikes(self, action: str, queue: str, now: float) -> bool:
        """True if this request shall go wrong; counts down."""
        if self.action not in ("*", action) or (self.queue is not None and self.queue != queue):
            return False
        if self.is_partial and not action.endswith("Batch"):
            return False
        if (self.until is not None and now > self.until) or self.count == 0 or random.random() >= self.rate:
            return False
        if self.count is not None:
            self.count -= 1
        return True

    def fail_entries(self, request: dict[str, Any], run: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
        """The answer to a batch of which entries fail; ``run`` does what is done of it."""
        entries = request.get("Entries") or []
        chosen = [each for place, each in enumerate(entries) if self.entries is None or place in self.entries]
        if self.kind == "partial":
            rest = [each for each in entries if each not in chosen]
            answer = run({**request, "Entries": rest}) if rest else {}
        else:
            answer = run(request)
        ids = {each["Id"] for each in chosen}
        told = {"Code": self.code, "Message": "injected by the embedded SQS", "SenderFault": self.sender_fault}
        failed = [each for each in answer.get("Failed", ()) if each["Id"] not in ids]
        failed += [{"Id": each["Id"], **told} for each in chosen]
        successful = [each for each in answer.get("Successful", ()) if each["Id"] not in ids]
        return {key: value for key, value in (("Successful", successful), ("Failed", failed)) if value}
