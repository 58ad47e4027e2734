"""Waiting for facts, with one deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

Fact = TypeVar("Fact")
LOOK_EVERY_SECONDS = 0.02


def until(fact: Callable[[], Fact], what: str, seconds: float = 30.0) -> Fact:
    """Look at a fact until it is true (or anything that counts as true), and give it. Fails when the time is up."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        found = fact()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g}s: {what} (last seen: {found!r})")
        pause.wait(LOOK_EVERY_SECONDS)
