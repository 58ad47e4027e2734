"""Chords: a group, and a body that is called with the members' values once all have ended.

The store counts the members, or a task looks after them: ``backends/chords.py``.
https://docs.celeryq.dev/en/stable/userguide/canvas.html#chords
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from pyqs_celery.canvas import stamping
from pyqs_celery.canvas.group import group, members
from pyqs_celery.canvas.signature import KEPT, Signature, item, maybe_signature
from pyqs_celery.canvas.walking import count_parts, ends_in_group, is_empty_group, kind, strip_headers
from pyqs_celery.exceptions import CPendingDeprecationWarning
from pyqs_celery.result_base import allow_join_result
from pyqs_celery.utils.collections import listed
from pyqs_celery.utils.ids import uuid

DELAYS = ("countdown", "eta")
"""Options of a chord that say when its members run; the body follows them at once."""


@Signature.register_type("chord")
class _chord(Signature):  # noqa: N801 - Celery's name
    """``chord(members, body)`` or ``chord(members)(body)``: ``tasks`` holds the members, ``body`` what follows."""

    tasks: Any = item("kwargs.header", "The members: a list, or a group once it is frozen.")
    body: Any = item("kwargs.body", "What is called with their values.")

    def __init__(
        self,
        header: Any,
        body: Any = None,
        task: Any = "celery.chord",
        args: Any = None,
        kwargs: Any = None,
        app: Any = None,
        **options: Any,
    ) -> None:
        parts = {**(kwargs or {"kwargs": {}}), "header": members(header, app), "body": maybe_signature(body, app=app)}
        options.pop("subtask_type", None)
        super().__init__(task, args, parts, app=app, subtask_type="chord", **options)

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Any = None) -> Any:
        """A chord from its dictionary."""
        parts = dict(d["kwargs"])
        header, body = parts.pop("header"), parts.pop("body", None)
        made = cls(header, body, kwargs=parts or None, app=app, args=d.get("args"), options=dict(d["options"]))
        made["immutable"] = bool(d.get("immutable"))
        return made

    @property
    def app(self) -> Any:
        """The app it is bound to, or that of its parts, or the current one."""
        if self._app is not None:
            return self._app
        for part in (*self._members()[:1], self.body):
            if part is not None and part._app is not None:
                return part._app
        return super().app

    def _members(self) -> list[Any]:
        found: list[Any] = self.tasks.tasks if kind(self.tasks) == "group" else self.tasks
        return found

    def clone(self, *args: Any, **kwargs: Any) -> Any:
        """A copy, with copies of its parts."""
        found = super().clone(*args, **kwargs)
        found.tasks = [member.clone() for member in found._members()]
        found.body = maybe_signature(found.body, clone=True)
        return found

    def __call__(self, body: Any = None, **options: Any) -> Any:
        """Send it, with another body if one is given."""
        return self.apply_async((), {"body": body} if body is not None else {}, **options)

    # -- sending -----------------------------------------------------------------------------------

    def apply_async(  # type: ignore[override]  # the order of its arguments is Celery's
        self,
        args: Any = None,
        kwargs: Any = None,
        task_id: Any = None,
        producer: Any = None,
        publisher: Any = None,
        connection: Any = None,
        router: Any = None,
        result_cls: Any = None,
        **options: Any,
    ) -> Any:
        """Send its members and give the result of its body.

        ``args`` come before each member's own. Options are those of members and body, but for ``countdown`` and ``eta``
        (the members'), ``link`` and ``link_error`` (the body's). Raises NotImplementedError without a result back end.
        """
        keywords = dict(kwargs or {})
        body = maybe_signature(keywords.pop("body", None), app=self._app) or self.body
        if body is None:
            raise TypeError("a chord needs a body: chord(members, body), or chord(members)(body)")
        merged_args = (*(args or ()), *self.args) if args and not self.immutable else tuple(self.args)
        keywords = {**(self["kwargs"].get("kwargs") or {}), **keywords}
        merged = {**self.options, **options}
        own_id = merged.pop("task_id", None)
        if self.app.conf.task_always_eager:
            body = self._with_callbacks(body.clone(), merged)
            with allow_join_result():
                return self.apply(args, keywords, body=body)
        header = group(self._members(), app=self.app, task_id=own_id or uuid())
        if kind(self.tasks) == "group":
            header.options.update(self.tasks.options)
        return self.run(header, body, merged_args, task_id=task_id, kwargs=keywords, **merged)

    def run(
        self,
        header: Any,
        body: Any,
        partial_args: Any = (),
        app: Any = None,
        interval: float | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        eager: bool = False,
        task_id: Any = None,
        kwargs: Any = None,
        **options: Any,
    ) -> Any:
        """Freeze body and members, tell the store, and send the members.

        ``interval`` and ``max_retries`` are for the task that looks after members where the store cannot count.
        """
        app = app or self.app
        delay = {key: options.pop(key) for key in DELAYS if options.get(key) is not None}
        if countdown is not None:
            delay["countdown"] = countdown
        body = self._with_callbacks(body.clone(), options)
        if options.get("chain") and ends_in_group(body):
            *later, after = options["chain"]
            body, options["chain"] = followed(body, maybe_signature(after, app=app), app), later or None
        kept = KEPT & body.options.keys() | {"parent_id"}
        body.options.update({key: value for key, value in options.items() if key not in kept and value is not None})
        for key in ("chain", "chord"):
            options.pop(key, None)
        group_id = header.options.setdefault("task_id", uuid())
        root_id = body.options.get("root_id")
        result = body.freeze(task_id or uuid(), group_id=group_id, root_id=root_id)
        strip_headers(body)
        frozen = header.freeze_members(group_id=group_id, chord=body, root_id=root_id)
        if not header.tasks:
            body.delay([])
            result.parent = app.GroupResult(*frozen)
            return result
        app.backend.apply_chord(frozen, body, interval=interval, max_retries=max_retries)
        options.pop("task_id", None)
        sent = header.apply_async(partial_args, kwargs, task_id=group_id, **options, **delay)
        result.parent = sent
        return result

    def _with_callbacks(self, body: Any, options: dict[str, Any]) -> Any:
        """Put the chord's ``link`` and ``link_error`` on its body, and take them out of the options."""
        for callback in listed(options.pop("link", None)):
            found = maybe_signature(callback, app=self._app, clone=True)
            body.append_to_list_option("link", found) if is_empty_group(body) else body.link(found)
        for errback in listed(options.pop("link_error", None)):
            _link_error(body, maybe_signature(errback, app=self._app))
        return body

    def apply(
        self, args: Any = None, kwargs: Any = None, propagate: bool = True, body: Any = None, **options: Any
    ) -> Any:
        """Run its members and then its body here."""
        body = self.body if body is None else body
        given = (*(args or ()), *self.args) if not self.immutable else tuple(self.args)
        values = group([member.clone() for member in self._members()], app=self.app).apply(given, kwargs)
        return body.apply((values.get(propagate=propagate),))

    def freeze(
        self,
        _id: Any = None,
        group_id: Any = None,
        chord: Any = None,
        root_id: Any = None,
        parent_id: Any = None,
        group_index: int | None = None,
    ) -> Any:
        """Give ids to its members and body; the members learn of the body when they are sent."""
        if kind(self.tasks) != "group":
            self.tasks = group(self.tasks, app=self.app)
        if self.options.get("task_id"):
            self.tasks.options.setdefault("task_id", self.options["task_id"])
        header = self.tasks.freeze(root_id=root_id, parent_id=parent_id)
        self.id = header.id
        if self.body is None:
            return header
        place = {"group_id": group_id, "group_index": group_index, "root_id": root_id}
        result = self.body.freeze(_id, chord=chord, **place)
        first = result
        while first.parent is not None:
            first = first.parent
        if first is not header:
            first.parent = header
        return result

    _freeze = freeze

    # -- changing it -------------------------------------------------------------------------------

    def set_immutable(self, immutable: bool) -> None:
        """Say it of all members."""
        for task in self._members():
            task.set_immutable(immutable)

    def link(self, callback: Any) -> Any:
        """Run ``callback`` with the body's result."""
        self.body.link(callback)
        return callback

    def link_error(self, errback: Any) -> Any:
        """Run ``errback`` if the body fails, or a member does; for each member too with task_allow_error_cb_on_chord_header."""
        errback = maybe_signature(errback)
        each_member = self.app.conf.task_allow_error_cb_on_chord_header
        if not each_member:
            warnings.warn(
                "errbacks of a chord are its body's alone; task_allow_error_cb_on_chord_header puts them on its members too",
                CPendingDeprecationWarning,
                stacklevel=2,
            )
        for task in self._members():
            if each_member:
                task.link_error(errback.clone(immutable=True))
            elif kind(task) == "chord":
                task.link_error(errback)
        self.body.link_error(errback)
        return errback

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Stamp its members and its body."""
        said = visitor.on_chord_header_start(self, **headers) or {} if visitor is not None else None
        found = stamping.merged(self, said, append_stamps, headers)
        self.stamp_links(visitor, append_stamps, **found)
        for task in self._members():
            task.stamp(visitor, append_stamps, **found)
        if visitor is None:
            if self.body is not None:
                self.body.stamp(None, append_stamps, **found)
            return
        visitor.on_chord_header_end(self, **found)
        if self.body is not None:
            said = visitor.on_chord_body(self, **found) or {}
            self.body.stamp(visitor, append_stamps, **stamping.merged(self, said, append_stamps, found))

    def __length_hint__(self) -> int:
        return sum(count_parts(task) for task in self._members())

    def __repr__(self) -> str:
        return f"chord({self._members()!r}, {self.body!r})" if self.body else f"<chord without body: {self.tasks!r}>"


def _link_error(body: Any, errback: Any, *, as_group: bool = True) -> None:
    """Put an errback on a body: on what of it can fail by itself."""
    if kind(body) == "group":
        if as_group and body.options.get("link_error") is not None:
            body.append_to_list_option("link_error", errback.clone())
            return
        for task in body.tasks:
            _link_error(task, errback, as_group=False)
    elif kind(body) == "chord":
        _link_error(body.body, errback)
    else:
        body.append_to_list_option("link_error", errback.clone())


def followed(sig: Any, after: Any, app: Any) -> Any:
    """A copy of a signature that ends in a group, with ``after`` as what waits for that group."""
    if kind(sig) == "group":
        return _chord(sig, after, app=app)
    found = sig.clone()
    if kind(found) == "chord":
        found.body = followed(found.body, after, app)
    else:
        found.tasks[-1] = followed(found.tasks[-1], after, app)
    return found


chord = _chord
