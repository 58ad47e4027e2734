"""Small questions about canvas, asked from several places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyqs_celery.canvas.signature import Signature, maybe_signature
from pyqs_celery.utils.collections import listed


def kind(sig: Any) -> str | None:
    """What kind of canvas a signature or its dictionary is; None for a plain call."""
    return sig.get("subtask_type") if isinstance(sig, Mapping) else None


def is_empty_group(sig: Any) -> bool:
    """True for a group without members."""
    return kind(sig) == "group" and not sig.tasks


def ends_in_group(sig: Any) -> bool:
    """True if a signature's result is that of a group, for which what follows has to wait."""
    while kind(sig) in ("chord", "chain"):
        sig = sig.body if kind(sig) == "chord" else sig.tasks[-1] if sig.tasks else None
    return kind(sig) == "group" and bool(sig.tasks)


def unrolled(sig: Any) -> Any:
    """The only member of a group of one; anything else as it is."""
    while kind(sig) == "group" and len(sig.tasks) == 1:
        sig = maybe_signature(sig.tasks[0], app=sig._app)
    return sig


def count_parts(sig: Any) -> int:
    """How many times a chord's member reports: once for a call, as often as its last step for a chain."""
    sig = sig if isinstance(sig, Signature) else Signature.from_dict(sig)
    what = kind(sig)
    if what == "group":
        return sum(count_parts(task) for task in sig.tasks)
    if what == "chain":
        return next((size for size in map(count_parts, reversed(sig.tasks)) if size), 0)
    if what == "chord":
        return count_parts(sig.body)
    return 1


def result_and_errbacks(sig: Any, app: Any = None) -> tuple[Any, list[Any]]:
    """The id of a signature's result and the errbacks that a failure of it calls.

    A chord's result is that of its body; a group's members bring theirs along.
    """
    sig = maybe_signature(sig, app=app)
    errbacks: list[Any] = []
    while kind(sig) == "chord" and sig.body is not None:
        errbacks += listed(sig.options.get("link_error"))
        sig = maybe_signature(sig.body, app=app)
    errbacks += listed(sig.options.get("link_error"))
    if kind(sig) == "group":
        for task in sig.tasks:
            errbacks += result_and_errbacks(task, app)[1]
    return sig.options.get("task_id"), errbacks


def without_chord(sig: Any) -> None:
    """Take from a signature, and from the part of it that reports, the body of a chord that it will be told again."""
    sig.options.pop("chord", None)
    what = kind(sig)
    if what == "group":
        for task in sig.tasks:
            without_chord(task)
    elif what == "chain" and sig.tasks:
        without_chord(sig.tasks[-1])
    elif what == "chord" and sig.body is not None:
        without_chord(sig.body)


def strip_headers(sig: Any) -> None:
    """Take the bodies from the members of all chords inside a signature.

    A chord's members are told their body when they are sent; before that each would only carry another copy of it.
    """
    what = kind(sig)
    if what == "chord":
        members = sig.tasks.tasks if kind(sig.tasks) == "group" else sig.tasks
        for task in members:
            without_chord(task)
            strip_headers(task)
        if sig.body is not None:
            strip_headers(sig.body)
    elif what in ("group", "chain"):
        for task in sig.tasks:
            strip_headers(task)
