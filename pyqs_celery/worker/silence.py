"""How long a consumer may say nothing before the manager replaces it."""

from __future__ import annotations

import logging

logger = logging.getLogger("celery.worker")
LOOKS = 12


class Silence:
    """Counts looks without a word in between; ``seconds`` of them are too many, and 0 is never.

    Looks are counted rather than seconds, so that a worker that was stopped or suspended as a whole does not find
    its consumer silent when it goes on. Instants are monotonic.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._every = seconds / LOOKS
        self._due: float | None = None
        self._looks = 0

    def begin(self, now: float) -> None:
        """There is a new consumer."""
        self._looks = 0
        self._due = now + self._every if self.seconds else None

    def heard(self) -> None:
        """The consumer has said something."""
        self._looks = 0

    def end(self) -> None:
        """Listen no more: it has been dealt with, or the worker stops, which has a deadline of its own."""
        self._due = None

    def next_due(self) -> float | None:
        """When ``is_too_long`` is to be called."""
        return self._due

    def is_too_long(self, now: float, ident: int) -> bool:
        """True, once, if it is time to end this consumer; says so."""
        if self._due is None or now < self._due:
            return False
        self._due = now + self._every
        self._looks += 1
        if self._looks <= LOOKS:
            return False
        logger.critical(
            "The consumer process pid:%d has said nothing for %.0f s and is killed; messages it held come back when their "
            "leases end",
            *(ident, self.seconds),
        )
        self.end()
        return True
