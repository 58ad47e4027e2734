"""A clock that can be put forward and made to run faster: hours of SQS in seconds of a test."""

from __future__ import annotations

from collections.abc import Callable


class MovableClock:
    """Epoch seconds that follow ``base`` until ``move`` is called; it never goes back."""

    def __init__(self, base: Callable[[], float]) -> None:
        self.rate = 1.0
        self._base = base
        self._since = self._shown = base()

    def __call__(self) -> float:
        """The instant it shows."""
        return self._shown + (self._base() - self._since) * self.rate

    def move(self, advance: float = 0.0, rate: float | None = None) -> None:
        """Put it forward by ``advance`` seconds; from now on a real second counts ``rate`` of its own. Raises ValueError."""
        if advance < 0 or (rate is not None and rate <= 0):
            raise ValueError("a clock goes forward: advance must be 0 or more, rate more than 0")
        shown, base = self(), self._base()
        self._shown, self._since = shown + advance, base
        if rate is not None:
            self.rate = rate
