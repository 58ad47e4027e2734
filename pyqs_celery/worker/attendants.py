"""What the consumer does from time to time beside its messages: leave when there are none, and be spared while there are.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-scale-in-protection-endpoint.html
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable
from typing import Protocol
from urllib.error import URLError
from urllib.request import ProxyHandler, Request, build_opener

from pyqs_celery.utils.backoff import backoff
from pyqs_celery.utils.log import Sometimes
from pyqs_celery.worker.io import IoThreads

logger = logging.getLogger("celery.worker")
AGENT_VARIABLE = "ECS_AGENT_URI"
AGENT_SECONDS = 2.0
"""How long the agent, which is on the same machine, may take to answer."""
LINGER_SECONDS = 2.0
"""How long protection is kept after the last task, so that short tasks do not turn it on and off."""
PROTECTED_MINUTES_MOST = 2880


class Attendant(Protocol):
    """Does something of its own from time to time, in the consumer's loop."""

    def next_due(self) -> float | None:
        """When ``look`` is to be called at the latest (epoch seconds)."""
        ...

    def look(self, now: float) -> None:
        """Do what is due."""
        ...

    def close(self) -> None:
        """The consumer ends."""
        ...


class IdleExit:
    """Asks for a stop when nothing has been in hand for ``seconds``. ``is_busy`` says whether something is."""

    def __init__(self, seconds: float, is_busy: Callable[[], bool], stop: Callable[[str], object]) -> None:
        self._seconds = seconds
        self._is_busy = is_busy
        self._stop = stop
        self._since: float | None = None
        self._asked = False

    def next_due(self) -> float | None:
        """When it has been idle for long enough."""
        return None if self._since is None or self._asked else self._since + self._seconds

    def look(self, now: float) -> None:
        """See whether it is idle."""
        if self._is_busy():
            self._since = None
        elif self._since is None:
            self._since = now
        elif now - self._since >= self._seconds and not self._asked:
            self._asked = True
            self._stop(f"it has been idle for {self._seconds:g} s (--exit-when-idle)")

    def close(self) -> None:
        """Nothing is left open."""


class EcsProtection:
    """Keeps ECS from ending this task by a scale-in while tasks run.

    ``put(minutes)`` tells the agent, in a thread: protect for so long, or with None no more; it gives why that failed, or None.
    Protection is for twice ``lease_seconds``, in whole minutes, and renewed at half of that: a worker that is killed is soon
    unprotected.
    """

    def __init__(
        self,
        is_busy: Callable[[], bool],
        lease_seconds: float,
        threads: IoThreads,
        put: Callable[[int | None], str | None],
    ) -> None:
        self._is_busy = is_busy
        self._minutes = min(PROTECTED_MINUTES_MOST, max(1, math.ceil(2 * lease_seconds / 60)))
        self._threads = threads
        self._put = put
        self._protected = False
        self._asking = False
        self._busy_at = float("-inf")
        self._was_busy = False
        self._renew_at = 0.0
        self._retry_at = 0.0
        self._failures = 0
        self._tell = Sometimes()

    def next_due(self) -> float | None:
        """When to renew, clear, or try again."""
        if self._asking:
            return None
        if self._was_busy:
            return max(self._renew_at if self._protected else 0.0, self._retry_at)
        return max(self._busy_at + LINGER_SECONDS, self._retry_at) if self._protected else None

    def look(self, now: float) -> None:
        """Tell the agent what has changed."""
        was_busy, self._was_busy = self._was_busy, self._is_busy()
        if was_busy or self._was_busy:
            self._busy_at = now
        if self._asking or now < self._retry_at:
            return
        if self._was_busy and (not self._protected or now >= self._renew_at):
            self._ask(self._minutes)
        elif self._protected and not self._was_busy and now - self._busy_at >= LINGER_SECONDS:
            self._ask(None)

    def _ask(self, minutes: int | None) -> None:
        self._asking = True
        self._threads.ask(lambda: self._put(minutes), lambda error, now: self._asked(minutes, error, now))

    def _asked(self, minutes: int | None, error: str | None, now: float) -> None:
        self._asking = False
        if error is not None:
            self._failures += 1
            self._retry_at = now + backoff(self._failures)
            if self._tell("failed", now):
                logger.warning("ECS task protection could not be changed: %s; trying again", error)
            return
        self._failures = 0
        self._protected = minutes is not None
        self._renew_at = now + (minutes or 0) * 30

    def close(self) -> None:
        """Clear it, once, in the worker's last moments."""
        self._threads.close()
        if self._protected:
            error = self._put(None)
            if error is not None:
                logger.warning("ECS task protection could not be cleared: %s; it ends by itself", error)


def ecs_agent() -> Callable[[int | None], str | None] | None:
    """How to tell the agent that ECS_AGENT_URI names; None, and a warning, where there is none."""
    address = os.environ.get(AGENT_VARIABLE)
    if not address:
        logger.warning("There is no ECS task protection: %s is not set, so this is no ECS task", AGENT_VARIABLE)
        return None
    opener = build_opener(ProxyHandler({}))  # it is on this machine, whatever proxies there are

    def put(minutes: int | None) -> str | None:
        wanted = {"ProtectionEnabled": minutes is not None}
        body = json.dumps(wanted | ({"ExpiresInMinutes": minutes} if minutes is not None else {})).encode()
        url, headers = f"{address}/task-protection/v1/state", {"Content-Type": "application/json"}
        try:
            request = Request(url, body, headers, method="PUT")  # noqa: S310 - what ECS itself has set
            with opener.open(request, timeout=AGENT_SECONDS) as answer:
                told = json.loads(answer.read(65536))
        except (OSError, URLError, ValueError) as exc:
            return f"{type(exc).__name__}: {exc}"
        failure = told.get("failure") or told.get("error") if isinstance(told, dict) else "no answer of an agent"
        return str(failure) if failure else None

    return put
