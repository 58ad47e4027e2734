"""What takes the place of a running task: ``task.replace(sig)``.

https://docs.celeryq.dev/en/stable/reference/celery.app.task.html#celery.app.task.Task.replace
"""

from __future__ import annotations

from typing import Any

from pyqs_celery.exceptions import ImproperlyConfigured
from pyqs_celery.utils.collections import listed


def replacement(task: Any, sig: Any) -> Any:
    """The signature as it is to be sent: with the running task's id, callbacks, chord, and the steps after it.

    A group becomes a chord whose body gives its values on. Raises ImproperlyConfigured.
    """
    from pyqs_celery.canvas.signature import maybe_signature
    from pyqs_celery.canvas.walking import kind

    app, request = task.app, task.request
    sig = maybe_signature(sig, app=app)
    if sig is None:
        raise ImproperlyConfigured("replace() takes a signature")
    if "chord" in sig.options:
        raise ImproperlyConfigured("A signature replacing a task must not be part of a chord")
    if kind(sig) == "chain" and not sig.tasks:
        raise ImproperlyConfigured("Cannot replace with an empty chain")
    gather = app.tasks["celery.accumulate"].s(index=0)
    if kind(sig) == "group" or (kind(sig) == "chain" and kind(sig.tasks[-1]) == "group"):
        sig = sig | gather
    last = sig.tasks[-1] if kind(sig) == "chain" else sig
    for callback in listed(request.callbacks):
        last.link(maybe_signature(callback, app=app))
    for errback in listed(request.errbacks):
        sig.link_error(maybe_signature(errback, app=app))
    sig.freeze(request.id)
    nesting = {"replaced_task_nesting": (request.replaced_task_nesting or 0) + 1}
    sig.set(
        chord=request.chord, group_id=request.group, group_index=request.group_index, root_id=request.root_id, **nesting
    )
    steps = [app.signature(step) for step in reversed(request.chain or ())]
    for step in (*(sig.tasks if kind(sig) == "chain" else ()), *steps):
        step.set(**nesting)
    for step in steps:
        sig = sig | step
    return sig
