"""The nine ``celery.*`` tasks that every worker of a fleet must know, under Celery's names and with its arguments.

https://docs.celeryq.dev/en/stable/internals/reference/celery.app.builtins.html
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pyqs_celery.app.request import Context
from pyqs_celery.exceptions import BackendError

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery

logger = logging.getLogger("celery.app.builtins")
GROWTH = 1.5
MOST_SECONDS = 60.0
"""A chord that is looked after waits longer each time, up to a minute: 20 looks at one of ten minutes."""


def look_again_after(looks: int, first: float) -> float:
    """Seconds until the next look at a chord that is not complete, after so many looks."""
    return float(max(first, min(MOST_SECONDS, first * GROWTH ** min(looks, 60))))


LOOKING = {"bind": True, "max_retries": None, "ignore_result": True}


def register(app: Celery) -> None:
    """Add them to an app."""
    for name, fun, options in (
        ("celery.backend_cleanup", _backend_cleanup(app), {}),
        ("celery.accumulate", _accumulate, {}),
        # in a FIFO group it goes to the end each time, or parts of its chord might wait behind it for ever
        ("celery.chord_unlock", _chord_unlock, {**LOOKING, "sqs_retry": "message"}),
        ("celery.map", _map(app), {}),
        ("celery.starmap", _starmap(app), {}),
        ("celery.chunks", _chunks(app), {}),
        ("celery.group", _group, {"bind": True}),
        ("celery.chain", _chain, {}),
        ("celery.chord", _chord, {"bind": True, "ignore_result": False}),
    ):
        app.task(name=name, shared=False, lazy=False, **options)(fun)


def _backend_cleanup(app: Celery) -> Any:
    def backend_cleanup() -> None:
        """Drop results that have expired."""
        app.backend.cleanup()

    return backend_cleanup


def _accumulate(*args: Any, **kwargs: Any) -> Any:
    """Give back what it is given: all, or one by ``index``."""
    index = kwargs.get("index")
    return args if index is None else args[index]


def _chord_unlock(
    self: Any,
    group_id: Any,
    callback: Any,
    interval: float | None = None,
    max_retries: int | None = None,
    result: Any = None,
    **kwargs: Any,  # noqa: ARG001 - Celery 5.7 sends one more, and later ones may
) -> None:
    """Look whether all members of a chord have ended; if so call its body, else look again later.

    ``result`` holds the members' tuples. The time between looks grows from ``result_chord_retry_interval`` to a minute;
    an ``interval`` (seconds) that the sender gave is kept.
    """
    from pyqs_celery.backends import chords

    app = self.app
    backend = app.backend
    group = app.GroupResult(group_id, [app.result_from_tuple(each) for each in result or ()])
    delay = (
        interval
        if interval is not None
        else look_again_after(self.request.retries, app.conf.result_chord_retry_interval)
    )
    try:
        ready = group.ready()
    except BackendError as exc:
        raise self.retry(exc=exc, countdown=delay, max_retries=max_retries) from exc
    if not ready:
        raise self.retry(countdown=delay, max_retries=max_retries)
    request = Context(id=self.request.id, group=group_id, chord=callback)
    again = int((self.request.sqs or {}).get("receive_count") or 1) > 1
    chords.complete_once(backend, request, group, doubtful=again)


def _map(app: Celery) -> Any:
    def xmap(task: Any, it: Any) -> list[Any]:
        """``task(item)`` of each item."""
        call = app.signature(task).type
        return [call(item) for item in it]

    return xmap


def _starmap(app: Celery) -> Any:
    def xstarmap(task: Any, it: Any) -> list[Any]:
        """``task(*item)`` of each item."""
        call = app.signature(task).type
        return [call(*item) for item in it]

    return xstarmap


def _chunks(app: Celery) -> Any:
    def chunks(task: Any, it: Any, n: int) -> Any:
        """Send a call for ``n`` items at a time."""
        from pyqs_celery.canvas.maps import chunks as make

        return make.apply_chunks(app.signature(task), it, n, app=app)

    return chunks


def _group(
    self: Any, tasks: Any, result: Any, group_id: Any, partial_args: Any = (), add_to_parent: bool = True
) -> Any:
    """Send the members of a group whose ids are given."""
    app = self.app
    found = app.result_from_tuple(result)
    with app.batch():
        for task in tasks:
            app.signature(task).clone(partial_args).apply_async(group_id=group_id, add_to_parent=False)
    parent = app.current_worker_task
    if add_to_parent and parent is not None:
        parent.add_trail(found)
    return found


def _chain(*args: Any, **kwargs: Any) -> Any:
    """Chains are sent step by step; nobody sends this."""
    raise NotImplementedError("chain is not a real task")


def _chord(
    self: Any,
    header: Any,
    body: Any,
    partial_args: Any = (),
    interval: float | None = None,
    countdown: float | None = None,
    max_retries: int | None = None,
    eager: bool = False,  # noqa: ARG001 - part of the message
    **kwargs: Any,
) -> Any:
    """Send a chord."""
    from pyqs_celery.canvas.chord import chord
    from pyqs_celery.canvas.group import group

    members = group(header, app=self.app)
    found = self.app.signature(body)
    return chord(members, found, app=self.app).run(
        members, found, partial_args, interval=interval, countdown=countdown, max_retries=max_retries, **kwargs
    )
