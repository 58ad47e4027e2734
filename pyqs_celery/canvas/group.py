"""Groups: calls that run side by side. They are sent ten to a request.

https://docs.celeryq.dev/en/stable/userguide/canvas.html#groups
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pyqs_celery.canvas import stamping
from pyqs_celery.canvas.signature import KEPT, Signature, item, maybe_signature
from pyqs_celery.canvas.walking import count_parts, kind
from pyqs_celery.utils.ids import uuid


def members(given: Iterable[Any], app: Any) -> list[Any]:
    """Signatures from what a group or chord was made of: signatures, their dictionaries, a chain or group."""
    if isinstance(given, Mapping):
        sig = maybe_signature(given, app=app)
        given = sig.tasks if kind(sig) in ("group", "chain") else [sig]
    return [each if isinstance(each, Signature) else maybe_signature(each, app=app) for each in given]


@Signature.register_type("group")
class group(Signature):  # noqa: N801 - Celery's name
    """``group(a, b, c)``, ``group([a, b, c])``, ``group(sig for ...)``: ``tasks`` holds the members."""

    tasks: Any = item("kwargs.tasks", "The members.")

    def __init__(self, *tasks: Any, **options: Any) -> None:
        app = options.pop("app", None)
        given: Any = tasks
        if len(tasks) == 1:
            given = maybe_signature(tasks[0], app=app)  # a dictionary too
            if kind(given) == "group":
                given = given.tasks
            elif isinstance(given, Signature):
                given = [given.clone()]
        super().__init__("celery.group", (), {"tasks": members(given, app)}, app=app, subtask_type="group", **options)

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Any = None) -> Any:
        """A group from its dictionary."""
        made = cls([maybe_signature(task, app=app) for task in d["kwargs"]["tasks"]], app=app, **d["options"])
        made["args"] = tuple(d.get("args") or ())
        return made

    @property
    def app(self) -> Any:
        """The app it is bound to, or that of its first member, or the current one."""
        return self.tasks[0].app if self._app is None and self.tasks else super().app

    def clone(self, *args: Any, **kwargs: Any) -> Any:
        """A copy, with copies of its members."""
        found = super().clone(*args, **kwargs)
        found.tasks = [member.clone() for member in found.tasks]
        return found

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Send it."""
        return self.apply_async(args, **options)

    # -- sending -----------------------------------------------------------------------------------

    def apply_async(  # type: ignore[override]  # the order of its arguments is Celery's
        self,
        args: Any = None,
        kwargs: Any = None,
        add_to_parent: bool = True,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        **options: Any,
    ) -> Any:
        """Send its members, ten to a request, and give their results.

        Options are each member's; ``args`` come before each member's own. Raises TypeError for ``link`` and
        ``link_error``, which a group cannot have, and BatchError if some members could not be sent.
        """
        if link is not None:
            raise TypeError("Cannot add link to group: use a chord")
        if link_error is not None:
            raise TypeError("Cannot add link to group: do that on individual tasks")
        app = self.app
        if app.conf.task_always_eager:
            return self.apply(args, kwargs, **options)
        if not self.tasks:
            return self.freeze()
        options, group_id = self._place(options)
        body = options.pop("chord", None)
        sigs = [member.clone() for member in self._flat()]
        args = (*(args or ()), *self.args)
        results = [
            sig.freeze(group_id=group_id, root_id=options.get("root_id"), group_index=index)
            for index, sig in enumerate(sigs)
        ]
        bodies = [body if body is not None else sig.options.get("chord") for sig in sigs]
        if any(each is not None for each in bodies):
            app.backend.set_chord_size(group_id, sum(map(count_parts, sigs)))
        with app.batch():
            for sig, each in zip(sigs, bodies, strict=True):
                sig.apply_async(args, kwargs, add_to_parent=False, producer=producer, chord=each, **options)
        found = results[0] if len(results) == 1 and hasattr(results[0], "results") else None
        result = found if found is not None else app.GroupResult(group_id, results)
        parent = app.current_worker_task
        if add_to_parent and parent is not None:
            parent.add_trail(result)
        return result

    def _place(self, options: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
        """The options of all members, with the group's id: its own, one that was given, or a new one."""
        given = {key: value for key, value in options.items() if key not in KEPT or key not in self.options}
        merged = {**self.options, **given}
        for own in ("group_index", "add_to_parent"):
            merged.pop(own, None)
        group_id = merged.pop("task_id", None) or uuid()
        merged["group_id"] = group_id
        return merged, group_id

    def _flat(self) -> Iterator[Any]:
        """Its members and those of groups in it; chains without steps are left out."""
        for task in self.tasks:
            member = maybe_signature(task, app=self._app)
            if kind(member) == "group":
                yield from member._flat()
            elif kind(member) != "chain" or member.tasks:
                yield member

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Run its members here, one after the other."""
        if not self.tasks:
            return self.freeze()
        options, group_id = self._place(options)
        args = (*(args or ()), *self.args)
        results = [member.clone().apply(args, kwargs, **options) for member in self._flat()]
        return self.app.GroupResult(group_id, results)

    def freeze(
        self,
        _id: Any = None,
        group_id: Any = None,
        chord: Any = None,
        root_id: Any = None,
        parent_id: Any = None,
        group_index: int | None = None,
    ) -> Any:
        """Give ids to it and its members, groups in it become part of it."""
        place = {"group_id": group_id, "chord": chord, "root_id": root_id, "parent_id": parent_id}
        return self.app.GroupResult(*self.freeze_members(_id=_id, group_index=group_index, **place))

    _freeze = freeze

    def freeze_members(
        self,
        _id: Any = None,
        group_id: Any = None,
        chord: Any = None,
        root_id: Any = None,
        parent_id: Any = None,
        group_index: int | None = None,
    ) -> tuple[Any, list[Any]]:
        """The group's id and the results of its members, all frozen."""
        own = self.options.setdefault("task_id", _id or uuid())
        if group_id:
            self.options["group_id"] = group_id
        if chord:
            self.options["chord"] = chord
        if group_index is not None:
            self.options["group_index"] = group_index
        root_id = self.options.setdefault("root_id", root_id)
        parent_id = self.options.setdefault("parent_id", parent_id)
        place = {"group_id": group_id, "chord": chord, "root_id": root_id, "parent_id": parent_id}
        self.tasks = [member.clone() for member in self._flat()]
        return own, [member.freeze(group_index=index, **place) for index, member in enumerate(self.tasks)]

    # -- changing it -------------------------------------------------------------------------------

    def skew(self, start: float = 1.0, stop: float | None = None, step: float = 1.0) -> Any:
        """Give its members countdowns that grow by ``step`` seconds from ``start``, up to ``stop``."""
        for index, task in enumerate(self.tasks):
            delay = start + index * step
            task.set(countdown=delay if stop is None else min(delay, stop))
        return self

    def set_immutable(self, immutable: bool) -> None:
        """Say it of all members."""
        for task in self.tasks:
            task.set_immutable(immutable)

    def link(self, callback: Any) -> Any:
        """Run ``callback`` without a result after the first member, as Celery does; a chord waits for all."""
        return self.tasks[0].link(callback.clone().set(immutable=True))

    def link_error(self, errback: Any) -> Any:
        """Run ``errback`` for each member that fails."""
        return tuple(task.link_error(maybe_signature(errback).clone()) for task in self.tasks)

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Stamp its members."""
        said = visitor.on_group_start(self, **headers) or {} if visitor is not None else None
        found = stamping.merged(self, said, append_stamps, headers)
        self.stamp_links(visitor, append_stamps, **found)
        for task in self.tasks:
            task.stamp(visitor, append_stamps, **found)
        if visitor is not None:
            visitor.on_group_end(self, **found)

    def __len__(self) -> int:
        return len(self.tasks)

    def __repr__(self) -> str:
        return f"group({list(itertools.islice(self.tasks, 20))!r})" if self.tasks else "group(<empty>)"
