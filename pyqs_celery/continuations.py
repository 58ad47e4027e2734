"""What follows a task: its callbacks, the next step of its chain, and its errbacks."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pyqs_celery.canvas.signature import Signature
from pyqs_celery.wire.message import TaskMessage

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery
    from pyqs_celery.app.request import Context
    from pyqs_celery.utils.einfo import ExceptionInfo

logger = logging.getLogger("celery.app.trace")


def unsupported(message: TaskMessage) -> str:
    """Why this release must leave the message to a Celery worker; empty if it need not.

    Running such a task and dropping what follows would lose work, so it is not run at all.
    """
    if message.chord is not None:
        return "it is a member of a chord, which this release does not count; a Celery worker must run it"
    for found in _signatures(message.callbacks, message.errbacks, message.chain):
        if not isinstance(found, Mapping) or not isinstance(found.get("task"), str):
            return "what follows it is no signature"
        if found.get("subtask_type"):
            return (
                f"a {found['subtask_type']} follows it, which this release does not send; a Celery worker must run it"
            )
        options = found.get("options") or {}
        if options.get("chord"):
            return "a chord member follows it, which this release does not count; a Celery worker must run it"
    return ""


def _signatures(*lists: Iterable[Any] | None) -> Iterable[Any]:
    for each in lists:
        for found in each or ():
            yield found
            options = found.get("options") if isinstance(found, Mapping) else None
            if isinstance(options, Mapping):
                yield from _signatures(_listed(options.get("link")), _listed(options.get("link_error")))


def _listed(value: Any) -> list[Any]:
    if not value:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def send_next(app: Celery, request: Context, value: Any) -> None:
    """Send the callbacks and the next chain step with ``value``; raises if one cannot be sent, so the task runs again."""
    for callback in request.callbacks or ():
        _bound(app, callback).apply_async((value,), root_id=request.root_id, parent_id=request.id)
    chain = list(request.chain or ())
    if chain:
        step = _bound(app, chain.pop())
        step.apply_async((value,), chain=chain or None, root_id=request.root_id, parent_id=request.id)


def send_errbacks(app: Celery, request: Context, exc: BaseException, einfo: ExceptionInfo) -> None:
    """Call or send the errbacks of a task that failed for good.

    One that takes more than an id is called here with (request, exception, traceback), as Celery does; others are
    sent the id.
    """
    for errback in request.errbacks or ():
        bound = _bound(app, errback)
        task = app.tasks.get(bound["task"])
        try:
            if task is not None and _takes_more_than_an_id(task):
                arguments, keywords, _ = bound._merge((request, exc, einfo.traceback), None, None)
                task(*arguments, **keywords)
            else:
                bound.apply_async((request.id,), parent_id=request.id, root_id=request.root_id)
        except Exception:  # the task's own failure must still be told
            logger.exception("Errback %s of task %s failed", bound["task"], request.id)


def _bound(app: Celery, value: Any) -> Signature:
    found = Signature.from_dict(value, app=app)
    found["options"] = dict(found.get("options") or {})
    return found


def _takes_more_than_an_id(task: Any) -> bool:
    try:
        parameters = inspect.signature(task.run).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if task.bind_self and positional and positional[0].name == "self":
        positional = positional[1:]
    return len(positional) > 1 or any(p.kind is p.VAR_POSITIONAL for p in parameters)
