"""Chains: calls that follow each other, each with the result of the one before.

How a chain is written down: the first step's message carries the others, last first, and each worker sends the next. A
group followed by a step is a chord. https://docs.celeryq.dev/en/stable/userguide/canvas.html#chains
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from itertools import pairwise
from typing import Any

from pyqs_celery.canvas import stamping
from pyqs_celery.canvas.chord import chord, followed
from pyqs_celery.canvas.signature import Signature, item, maybe_signature
from pyqs_celery.canvas.walking import ends_in_group, is_empty_group, kind, strip_headers, unrolled
from pyqs_celery.result_base import allow_join_result
from pyqs_celery.states import IGNORED, REJECTED
from pyqs_celery.utils.collections import listed

RUN_OPTIONS = frozenset("chord group_id group_index link link_error parent_id root_id task_id".split())
"""Options that are about the chain as a whole; all others of a chain are its first step's."""


def joined(left: Any, right: Any) -> Any:
    """``left | right``."""
    if not isinstance(right, Signature):
        return NotImplemented
    if is_empty_group(right):
        return left
    if kind(left) == "group":
        return chord(left, right, app=left._app)
    right = unrolled(right)
    if kind(left) == "chain":
        return _extended(left, right)
    if kind(left) == "chord" and kind(right) not in ("group", "chain"):
        found = left.clone()
        found.body = joined(found.body, right) if found.body is not None else right
        return found
    steps = right.unchain_tasks() if kind(right) == "chain" else [right]
    return _chain([left, *steps], app=left._app)


def _extended(left: _chain, right: Any) -> Any:
    """A chain with one more step, or with all steps of another chain."""
    if kind(right) == "chain":
        return reduce(joined, right.unchain_tasks(), left)
    steps = left.unchain_tasks()
    last = steps[-1] if steps else None
    if last is None:
        return right if kind(right) == "group" else _chain([right], app=left._app)
    if kind(last) == "group" and kind(right) != "group":
        steps[-1] = chord(last, right, app=left._app)
        if len(steps) > 1 and kind(steps[-2]) == "chord":
            after = steps.pop()
            steps[-1].body = joined(steps[-1].body, after)
    elif kind(last) == "chord" and kind(right) != "chord" and last.body is not None:
        last.body = joined(last.body, right)
    else:
        steps.append(right)
    return _chain(steps, app=left._app)


@Signature.register_type("chain")
class _chain(Signature):  # noqa: N801 - Celery's name
    """Steps that follow each other. ``tasks`` holds them in their order."""

    tasks: Any = item("kwargs.tasks", "The steps.")

    def __init__(self, *tasks: Any, **options: Any) -> None:
        steps = tasks[0] if len(tasks) == 1 and not isinstance(tasks[0], Mapping) else tasks
        app = options.pop("app", None)
        self._use_link = options.pop("use_link", None)
        steps = [step if isinstance(step, Signature) else maybe_signature(step, app=app) for step in steps]
        super().__init__("celery.chain", (), {"tasks": steps}, app=app, subtask_type="chain", **options)

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Any = None) -> Any:
        """A chain from its dictionary."""
        made = _chain([maybe_signature(task, app=app) for task in d["kwargs"]["tasks"]], app=app, **d["options"])
        made["args"] = tuple(d.get("args") or ())
        made["immutable"] = bool(d.get("immutable"))
        return made

    @property
    def app(self) -> Any:
        """The app it is bound to, or that of its first step, or the current one."""
        if self._app is None and self.tasks and isinstance(self.tasks[0], Signature):
            return self.tasks[0].app
        return super().app

    def clone(self, *args: Any, **kwargs: Any) -> Any:
        """A copy, with copies of its steps."""
        found = super().clone(*args, **kwargs)
        found.tasks = [maybe_signature(step, app=self._app, clone=True) for step in found.tasks]
        found._use_link = self._use_link
        return found

    def unchain_tasks(self) -> list[Any]:
        """Copies of its steps, with the chain's own links on them."""
        steps = [maybe_signature(step, app=self._app, clone=True) for step in self.tasks]
        for callback in listed(self.options.get("link")):
            steps[-1].link(callback)
        for errback in listed(self.options.get("link_error")):
            for step in steps:
                step.link_error(errback)
        return steps

    # -- sending -----------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Send it."""
        return self.apply_async(args, kwargs) if self.tasks else None

    def apply_async(self, args: Any = None, kwargs: Any = None, route_name: Any = None, **options: Any) -> Any:
        """Send its first step, and give the result of its last; None for a chain without steps.

        Options are the first step's, but for ``link`` (the last one's), ``link_error`` (every one's), ``task_id`` (the
        last one's).
        """
        if self.app.conf.task_always_eager:
            with allow_join_result():
                return self.apply(args, kwargs, **options)
        return self.run(args, kwargs, **{**self.options, **options})

    def run(
        self,
        args: Any = None,
        kwargs: Any = None,
        group_id: Any = None,
        chord: Any = None,
        task_id: Any = None,
        link: Any = None,
        link_error: Any = None,
        root_id: Any = None,
        parent_id: Any = None,
        group_index: int | None = None,
        chain: Any = None,
        **options: Any,
    ) -> Any:
        """Freeze copies of the steps and send the first; ``chain`` is what follows this chain in an outer one."""
        merged_args = (*(args or ()), *self.args) if args and not self.immutable else tuple(self.args)
        steps = self._steps(self.tasks, merged_args, kwargs, split=True)
        for step in steps:
            for errback in listed(link_error):
                step.link_error(errback)
        results = self._freeze_steps(steps, task_id, group_id, chord, root_id, group_index)
        if not results:
            return None
        for step in steps:
            strip_headers(step)
        if link:
            steps[-1].extend_list_option("link", link)
        first, following = steps[0], steps[:0:-1]
        if self._by_links():
            for step, after in pairwise(steps):
                step.link(after)
            following = []
        sent = first.apply_async(chain=[*(chain or ()), *following] or None, **options)
        return sent if len(steps) == 1 else results[-1]

    def freeze(
        self,
        _id: Any = None,
        group_id: Any = None,
        chord: Any = None,
        root_id: Any = None,
        parent_id: Any = None,
        group_index: int | None = None,
    ) -> Any:
        """Give ids to its steps, which are brought into their final form: no chains in it, groups made chords."""
        self.tasks = self._steps(self.tasks, self.args, None, split=False)
        self["args"] = ()
        results = self._freeze_steps(self.tasks, _id, group_id, chord, root_id, group_index)
        return results[-1] if results else self.app.AsyncResult(_id or self.options.setdefault("task_id", _new_id()))

    _freeze = freeze

    def _by_links(self) -> bool:
        return bool(self.app.conf.task_protocol == 1 if self._use_link is None else self._use_link)

    def _steps(self, tasks: Iterable[Any], args: Any, kwargs: Any, *, split: bool) -> list[Any]:
        """The steps in their final form; with ``split`` they are copies, and chords give their body's later steps away."""
        flat = [step for step in _flat(tasks, self._app, copies=split) if not is_empty_group(step)]
        if not flat:  # nothing but empty groups: the last of them is the result
            flat = [step for step in (maybe_signature(task, app=self._app) for task in tasks) if is_empty_group(step)][
                -1:
            ]
        if split and not self._by_links():
            flat = [part for step in flat for part in _split(step)]
        upgraded: list[Any] = []
        for step in reversed(flat):
            if upgraded and ends_in_group(step):
                upgraded.append(followed(step, upgraded.pop(), self.app))
            else:
                upgraded.append(step)
        steps = upgraded[::-1]
        if steps and (args or kwargs):
            steps[0] = steps[0].clone(args, kwargs)
        return steps

    def _freeze_steps(
        self, steps: list[Any], last_id: Any, group_id: Any, body: Any, root_id: Any, group_index: int | None
    ) -> list[Any]:
        """Freeze from the last to the first, each result the parent of the next; results in the steps' order."""
        results: list[Any] = []
        following: Any = None
        for index in range(len(steps) - 1, -1, -1):
            step = steps[index]
            if kind(step) == "chord":
                step.app.backend.ensure_chords_allowed()
            if index == len(steps) - 1:
                place = {"group_id": group_id, "chord": body, "group_index": group_index}
                found = step.freeze(last_id, root_id=root_id, **place)
            else:
                found = step.freeze(root_id=root_id)
            if following is not None and following.parent is None:
                following.parent = found
            following = _first_of(found)
            results.insert(0, found)
        if results:
            self.id = results[-1].id
        return results

    # -- running here ------------------------------------------------------------------------------

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Run its steps here, one after the other; raises what a step raises before the last."""
        merged = {**self.options, **options}
        link = merged.pop("link", None)
        given = (*(args or ()), *self.args)
        steps = self._steps(self.tasks, given, kwargs, split=True)
        if link and steps:
            last = steps[-1]
            (last.body if kind(last) == "chord" else last).extend_list_option("link", link)
        before = None
        for step in steps:
            found = step.apply((before.get(),) if before is not None else (), {}, **merged)
            found.parent, before = before, found
            if getattr(found, "state", None) in (IGNORED, REJECTED):
                break
        return before

    # -- the rest ----------------------------------------------------------------------------------

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Stamp its steps."""
        said = visitor.on_chain_start(self, **headers) or {} if visitor is not None else None
        found = stamping.merged(self, said, append_stamps, headers)
        self.stamp_links(visitor, append_stamps, **found)
        self.tasks = [maybe_signature(step, app=self._app) for step in self.tasks]
        for step in self.tasks:
            step.stamp(visitor, append_stamps, **found)
        if visitor is not None:
            visitor.on_chain_end(self, **found)

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.tasks)) or f"<{type(self).__name__}@{id(self):#x}: empty>"


class chain(_chain):  # noqa: N801 - Celery's name
    """``chain(a, b, c)`` or ``chain([a, b, c])``: the same as ``a | b | c``."""

    def __new__(cls, *tasks: Any, **options: Any) -> Any:
        """Join the steps; what comes out may be a chord or a group. With options, or one step alone, a chain as it is."""
        several = len(tasks) != 1 or not isinstance(tasks[0], Mapping)
        if options or not tasks or not several:
            return super().__new__(cls)
        steps = list(tasks[0]) if len(tasks) == 1 else list(tasks)
        return reduce(joined, (maybe_signature(step) for step in steps), _chain())


def _flat(tasks: Iterable[Any], app: Any, *, copies: bool) -> Iterable[Any]:
    """The steps of a chain and of the chains in it, groups of one member as that member."""
    for task in tasks:
        step = unrolled(maybe_signature(task, app=app, clone=copies))
        if kind(step) == "chain":
            inner = step.unchain_tasks() if copies else step.tasks
            if inner and step.args:
                inner[0] = inner[0].clone(step.args)
            yield from _flat(inner, app, copies=False)
        else:
            yield step


def _split(step: Any) -> list[Any]:
    """A chord whose body is a chain as the chord with the body's first step, and the other steps after it."""
    body: Any = step.body if kind(step) == "chord" else None
    if kind(body) != "chain" or not body.tasks:
        return [step]
    steps = list(_flat(body.unchain_tasks(), step._app, copies=False))
    if not steps or kind(steps[0]) == "group":
        return [step]
    found = step.clone()
    own = {key: value for key, value in body.options.items() if key not in RUN_OPTIONS}
    found.body = steps[0].clone(body.args, **own)
    return [part for each in (found, *steps[1:]) for part in ([each] if each is found else _split(each))]


def _first_of(result: Any) -> Any:
    """The result at the beginning of a result's line of parents."""
    while result.parent is not None:
        result = result.parent
    return result


def _new_id() -> str:
    from pyqs_celery.utils.ids import uuid

    return str(uuid())
