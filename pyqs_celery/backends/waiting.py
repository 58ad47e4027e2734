"""Waiting for results by asking for them again and again: what a store does that cannot tell of news by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from pyqs_celery import states
from pyqs_celery.exceptions import ImproperlyConfigured
from pyqs_celery.exceptions import TimeoutError as ResultTimeout

POLL_SECONDS = 0.5


class Deadline:
    """So many seconds from now; None for ever."""

    def __init__(self, timeout: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at = None if timeout is None else clock() + timeout

    def left(self) -> float | None:
        """Seconds that are left, 0 at the end, None for ever."""
        return None if self._at is None else max(0.0, self._at - self._clock())

    def pause(self, interval: float) -> float:
        """``interval``, or what is left of the time. Raises Celery's TimeoutError when nothing is."""
        left = self.left()
        if left == 0.0:
            raise ResultTimeout("The operation timed out.")
        return interval if left is None else min(interval, left)


def refuse_on_message(on_message: Any) -> None:
    """For stores that cannot tell of news. Raises ImproperlyConfigured, as Celery does, if somebody wants to be told."""
    if on_message is not None:
        raise ImproperlyConfigured("Backend does not support on_message callback")


class Waiting:
    """The mixin of ``Backend`` that polls."""

    get_task_meta: Callable[..., dict[str, Any]]
    clock: Callable[[], float]
    sleep: Callable[[float], None]

    def wait_for(
        self,
        task_id: str,
        timeout: float | None = None,
        interval: float | None = POLL_SECONDS,
        no_ack: bool = True,
        on_interval: Callable[[], Any] | None = None,
        on_message: Callable[[Any], Any] | None = None,
    ) -> dict[str, Any]:
        """Wait for a task's end and give its document. Raises Celery's TimeoutError after ``timeout`` seconds.

        ``on_message`` needs a store that tells of news; others raise ImproperlyConfigured.
        """
        refuse_on_message(on_message)
        deadline = Deadline(timeout, self.clock)
        while True:
            meta = self.get_task_meta(task_id)
            if meta["status"] in states.READY_STATES:
                return meta
            if on_interval is not None:
                on_interval()
            self.sleep(deadline.pause(interval or POLL_SECONDS))

    def wait_for_pending(
        self,
        result: Any,
        timeout: float | None = None,
        interval: float | None = POLL_SECONDS,
        no_ack: bool = True,
        on_message: Any = None,
        on_interval: Callable[[], Any] | None = None,
        callback: Any = None,
        propagate: bool = True,
    ) -> Any:
        """Wait for a result object and give its value; raises its exception if ``propagate``.

        ``on_message`` is called with each document on the way, by stores that tell of news.
        """
        meta = self.wait_for(result.id, timeout, interval, no_ack, on_interval, on_message)
        result._maybe_set_cache(meta)
        return result.maybe_throw(propagate=propagate, callback=callback)

    def iter_native(
        self,
        result: Any,
        timeout: float | None = None,
        interval: float | None = POLL_SECONDS,
        no_ack: bool = True,
        on_message: Callable[[Any], Any] | None = None,
        on_interval: Callable[[], Any] | None = None,
    ) -> Iterator[tuple[str, Any]]:
        """(id, document) of each member of a set as it ends; a member that is a set itself comes first, as its results."""
        ids = []
        for each in result.results:
            if hasattr(each, "results"):
                yield each.id, each.results
            else:
                ids.append(each.id)
        if ids:
            yield from self.get_many(ids, timeout, interval, no_ack, on_message, on_interval)

    def get_many(
        self,
        task_ids: Any,
        timeout: float | None = None,
        interval: float | None = POLL_SECONDS,
        no_ack: bool = True,
        on_message: Callable[[Any], Any] | None = None,
        on_interval: Callable[[], Any] | None = None,
        max_iterations: int | None = None,
        READY_STATES: frozenset[str] = states.READY_STATES,  # noqa: N803 - Celery's name
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """(id, document) of tasks as they end. Raises Celery's TimeoutError; stops after ``max_iterations`` looks."""
        deadline = Deadline(timeout, self.clock)
        left = list(dict.fromkeys(str(task_id) for task_id in task_ids))
        looks = 0
        while left:
            for task_id, meta in self._look(left, READY_STATES).items():
                left.remove(task_id)
                if on_message is not None:
                    on_message(meta)
                yield task_id, meta
            looks += 1
            if not left or (max_iterations and looks >= max_iterations):
                return
            if on_interval is not None:
                on_interval()
            self.sleep(deadline.pause(interval or POLL_SECONDS))

    def _look(self, task_ids: list[str], ready: frozenset[str]) -> dict[str, dict[str, Any]]:
        """The documents of those that have ended; a store that can read many at once does."""
        metas = {task_id: self.get_task_meta(task_id) for task_id in task_ids}
        return {task_id: meta for task_id, meta in metas.items() if meta["status"] in ready}

    def add_pending_result(self, result: Any, weak: bool = False) -> Any:
        """Nothing is waited for before somebody asks."""
        return result

    def remove_pending_result(self, result: Any) -> Any:
        """Nothing to end."""
        return result


class SyncBackendMixin:
    """Celery's name for stores that poll; all of ours do unless they say otherwise."""
