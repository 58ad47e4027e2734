"""What follows a task: its callbacks, the next step of its chain, and its errbacks."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pyqs_celery.backends.disabled import DisabledBackend
from pyqs_celery.canvas.signature import Signature
from pyqs_celery.utils.collections import listed
from pyqs_celery.wire.message import TaskMessage

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery
    from pyqs_celery.app.request import Context

logger = logging.getLogger("celery.app.trace")


def unsupported(app: Celery, message: TaskMessage) -> str:
    """Why this worker must leave the message to another; empty if it need not.

    Running such a task and dropping what follows would lose work, so it is not run at all.
    """
    for found in _signatures(message.callbacks, message.errbacks, message.chain):
        if not isinstance(found, Mapping) or not isinstance(found.get("task"), str):
            return "what follows it is no signature"
    if message.chord is not None and not isinstance(message.chord, Mapping):
        return "the chord it is a member of has no body that can be read"
    if message.chord is not None and type(app.backend) is DisabledBackend:
        return (
            "it is a member of a chord, and without a result back end nobody can tell when all members have ended: set "
            "result_backend as at the sender"
        )
    return ""


def _signatures(*lists: Iterable[Any] | None) -> Iterable[Any]:
    for each in lists:
        for found in each or ():
            yield found
            options = found.get("options") if isinstance(found, Mapping) else None
            if isinstance(options, Mapping):
                yield from _signatures(listed(options.get("link")), listed(options.get("link_error")))


def send_next(app: Celery, request: Context, value: Any) -> None:
    """Send the callbacks and the next chain step with ``value``; raises if one cannot be sent, so the task runs again."""
    chain = list(request.chain or ())
    if not chain and not request.callbacks:
        return
    inherited = {"root_id": request.root_id or request.id, "parent_id": request.id}
    if app.conf.task_inherit_parent_priority:
        inherited["priority"] = (request.delivery_info or {}).get("priority")
    with app.batch():
        for callback in _together(app, request.callbacks or ()):
            callback.apply_async((value,), **inherited)
        if chain:
            app.signature(chain.pop()).apply_async((value,), chain=chain or None, **inherited)


def _together(app: Celery, callbacks: Iterable[Any]) -> list[Any]:
    """Callbacks as they are sent: several calls as one group, as Celery sends them, and groups by themselves."""
    from pyqs_celery.canvas.group import group

    found = [app.signature(callback) for callback in callbacks]
    calls = [sig for sig in found if sig.get("subtask_type") != "group"]
    groups = [sig for sig in found if sig.get("subtask_type") == "group"]
    return [*groups, *([group(calls, app=app)] if len(calls) > 1 else calls)]


def send_errbacks(app: Celery, request: Any, exc: BaseException, traceback: Any) -> None:
    """Call or send the errbacks of a task that failed for good.

    One that takes more than an id is called here with (request, exception, traceback), as Celery does; others, and those
    that are not registered here, are sent the id.
    """
    for errback in listed(request.errbacks):
        bound = app.signature(errback)
        task = app.tasks.get(bound["task"])
        try:
            if task is not None and _takes_more_than_an_id(task, bound):
                arguments, keywords, _ = bound._merge((request, exc, traceback))
                task(*arguments, **keywords)
            elif request.is_eager:
                bound.apply((request.id,))
            else:
                bound.apply_async((request.id,), parent_id=request.id, root_id=request.root_id or request.id)
        except Exception:  # the task's own failure must still be told
            logger.exception("Errback %s of task %s failed", bound["task"], request.id)


def _takes_more_than_an_id(task: Any, sig: Signature) -> bool:
    """True if an errback has room for more than an id beside the arguments that it brings itself."""
    if sig.get("subtask_type"):
        return False
    try:
        parameters = list(inspect.signature(task.run).parameters.values())
    except (TypeError, ValueError):
        return False
    if task.bind_self and parameters and parameters[0].name == "self":
        parameters = parameters[1:]
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return True
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    brought = 0 if sig.immutable else len(sig.args) + sum(1 for p in positional if p.name in sig.kwargs)
    return len(positional) - brought > 1
