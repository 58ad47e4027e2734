"""A task call as a dictionary: what ``task.s(1, 2)`` gives, what links are made of, and how it travels.

Layout and merging rules: https://docs.celeryq.dev/en/stable/userguide/canvas.html#signatures
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from pyqs_celery import _state
from pyqs_celery.app.sending import reply_to
from pyqs_celery.canvas import stamping
from pyqs_celery.utils.collections import listed
from pyqs_celery.utils.ids import uuid

KEPT = frozenset({"group_id", "stamped_headers"})
"""Options that a call does not change once they are set."""
_HOMES = {
    "chain": "chain:_chain",
    "group": "group:group",
    "chord": "chord:_chord",
    "chunks": "maps:chunks",
    "xmap": "maps:xmap",
    "xstarmap": "maps:xstarmap",
}


def item(key: str, what: str) -> Any:
    """A property for one key of the dictionary, or of one of its parts as in ``kwargs.tasks``."""
    outer, _, inner = key.partition(".")

    def read(self: Any) -> Any:
        return self[outer].get(inner) if inner else self.get(outer)

    def write(self: Any, value: Any) -> None:
        if inner:
            self[outer][inner] = value
        else:
            self[outer] = value

    return property(read, write, doc=what)


class Signature(dict[str, Any]):
    """One call: ``task``, ``args``, ``kwargs``, ``options``, ``subtask_type``, ``immutable``.

    It pickles and dumps to plain data, so that any worker can read a message it lies in. ``sig | other`` makes a chain.
    """

    TYPES: ClassVar[dict[str, type[Signature]]] = {}
    _app: Any = None

    def __class_getitem__(cls, item: Any) -> type[Signature]:  # type: ignore[override]
        """``Signature[R]`` in annotations."""
        return cls

    def __init__(
        self,
        task: Any = None,
        args: Any = None,
        kwargs: Any = None,
        options: Any = None,
        type: Any = None,  # noqa: A002 - Celery's name
        subtask_type: str | None = None,
        immutable: bool = False,
        app: Any = None,
        **extra: Any,
    ) -> None:
        self._app = app
        if isinstance(task, Mapping):
            super().__init__(task)
            return
        super().__init__(
            task=task if isinstance(task, str) else task.name,
            args=tuple(args or ()),
            kwargs=dict(kwargs or {}),
            options=dict(options or {}, **extra),
            subtask_type=subtask_type,
            immutable=immutable,
        )

    @classmethod
    def register_type(cls, name: str | None = None) -> Callable[[Any], Any]:
        """Decorate a class that stands for signatures with this ``subtask_type``."""

        def register(subclass: Any) -> Any:
            cls.TYPES[name or subclass.__name__] = subclass
            return subclass

        return register

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Any = None) -> Any:
        """A signature of the right class from its dictionary. Raises ValueError for a ``subtask_type`` nobody knows."""
        kind = d.get("subtask_type")
        if not kind:
            return Signature(d, app=app)
        if kind not in cls.TYPES and kind in _HOMES:
            module, _, name = _HOMES[kind].partition(":")
            cls.TYPES[kind] = getattr(importlib.import_module(f"pyqs_celery.canvas.{module}"), name)
        found = cls.TYPES.get(kind)
        if found is None:
            raise ValueError(f"no signature is called {kind!r:.80}")
        return found.from_dict(d, app=app)

    # -- its parts ---------------------------------------------------------------------------------

    task: Any = item("task", "The task's name.")
    args: Any = item("args", "Its positional arguments.")
    kwargs: Any = item("kwargs", "Its keyword arguments.")
    options: Any = item("options", "Its options, those of ``apply_async``.")
    subtask_type: Any = item("subtask_type", "What kind of canvas it is; None for a plain call.")
    immutable: Any = item("immutable", "True if it takes no arguments of others.")

    @property
    def name(self) -> Any:
        """The task's name."""
        return self["task"]

    @property
    def app(self) -> Any:
        """The app it is bound to, or the current one."""
        return self._app or _state.get_current_app()

    @property
    def type(self) -> Any:
        """The task itself. Raises NotRegistered if it is not registered here."""
        return self.app.tasks[self["task"]]

    id: Any = item("options.task_id", "Its task id, once it has one.")
    root_id: Any = item("options.root_id", "The id of the first task of all, once it is known.")
    parent_id: Any = item("options.parent_id", "The id of the task that sends it, once it is known.")

    # -- changing it -------------------------------------------------------------------------------

    def _merge(
        self, args: Any = None, kwargs: Any = None, options: Any = None, force: bool = False
    ) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
        """Arguments of others come before its own; an immutable one takes options only, unless ``force``."""
        kept = KEPT | set(self.options.get("stamped_headers") or ())
        news = {key: value for key, value in (options or {}).items() if key not in kept or key not in self.options}
        merged = {**self.options, **news}
        if self.immutable and not force:
            return tuple(self.args), dict(self.kwargs), merged
        return (*(args or ()), *self.args), {**self.kwargs, **(kwargs or {})}, merged

    def clone(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """A copy, with more arguments and options."""
        merged_args, merged_kwargs, merged = self._merge(args, kwargs, options)
        return Signature.from_dict(
            {
                "task": self["task"],
                "args": merged_args,
                "kwargs": merged_kwargs,
                "options": copy_options(merged),
                "subtask_type": self.get("subtask_type"),
                "immutable": bool(self.immutable),
            },
            app=self._app,
        )

    partial = clone

    def replace(self, args: Any = None, kwargs: Any = None, options: Any = None) -> Any:
        """A copy with other arguments or options."""
        found = self.clone()
        for key, value in (("args", args), ("kwargs", kwargs), ("options", options)):
            if value is not None:
                found[key] = value
        return found

    def set(self, immutable: bool | None = None, **options: Any) -> Any:
        """Change options in place."""
        if immutable is not None:
            self.set_immutable(immutable)
        self.options.update(options)
        return self

    def set_immutable(self, immutable: bool) -> None:
        """Say whether it takes arguments of others."""
        self["immutable"] = immutable

    def freeze(
        self,
        _id: Any = None,
        group_id: Any = None,
        chord: Any = None,
        root_id: Any = None,
        parent_id: Any = None,
        group_index: int | None = None,
    ) -> Any:
        """Give it its id and place before it is sent, and give the result it will have."""
        options = self.options
        task_id = options.setdefault("task_id", _id or uuid())
        if root_id:
            options["root_id"] = root_id
        if parent_id:
            options["parent_id"] = parent_id
        options.setdefault("reply_to", reply_to())
        if group_id:
            options.setdefault("group_id", group_id)
        if chord:
            options["chord"] = chord
        if group_index is not None:
            options["group_index"] = group_index
        return self.app.AsyncResult(task_id)

    _freeze = freeze

    def append_to_list_option(self, key: str, value: Any) -> Any:
        """Add to an option that is a list, once."""
        found = self.options.get(key)
        found = list(found) if isinstance(found, (list, tuple)) else [] if found is None else [found]
        if value not in found:
            found.append(value)
        self.options[key] = found
        return value

    def extend_list_option(self, key: str, value: Any) -> None:
        """Add several."""
        for each in listed(value):
            self.append_to_list_option(key, each)

    def link(self, callback: Any) -> Any:
        """Run ``callback`` with the result when it succeeds."""
        return self.append_to_list_option("link", callback)

    def link_error(self, errback: Any) -> Any:
        """Run ``errback`` when it fails."""
        return self.append_to_list_option("link_error", errback)

    def on_error(self, errback: Any) -> Any:
        """``link_error``, giving the signature back."""
        self.link_error(errback)
        return self

    def flatten_links(self) -> list[Any]:
        """It and all its callbacks, and theirs."""
        found: list[Any] = [self]
        for link in listed(self.options.get("link")):
            found.extend(maybe_signature(link, app=self._app).flatten_links())
        return found

    # -- stamps ------------------------------------------------------------------------------------

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Mark it, and what follows it, with ``headers`` and what ``visitor`` says; workers show them as stamps."""
        self.stamp_links(visitor, append_stamps, **headers)
        said = visitor.on_signature(self, **headers) or {} if visitor is not None else None
        return self.set(**stamping.merged(self, said, append_stamps, headers))

    def stamp_links(self, visitor: Any, append_stamps: bool = False, **headers: Any) -> None:
        """Mark what follows it."""
        stamping.stamp_links(self, visitor, append_stamps, headers)

    # -- calling it --------------------------------------------------------------------------------

    def apply_async(self, args: Any = None, kwargs: Any = None, route_name: Any = None, **options: Any) -> Any:
        """Send it."""
        given = {key: value for key, value in options.items() if value is not None}
        merged_args, merged_kwargs, merged = self._merge(args, kwargs, given)
        task = self.app.tasks.get(self["task"])
        if task is not None:
            return task.apply_async(merged_args, merged_kwargs, **merged)
        return self.app.send_task(self["task"], merged_args, merged_kwargs, **merged)

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        """Send it with more arguments."""
        return self.apply_async(args, kwargs)

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Run it here."""
        given = {key: value for key, value in options.items() if value is not None}
        merged_args, merged_kwargs, merged = self._merge(args, kwargs, given)
        return self.type.apply(merged_args, merged_kwargs, **merged)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the task's function here and now."""
        merged_args, merged_kwargs, _ = self._merge(args, kwargs)
        return self.type(*merged_args, **merged_kwargs)

    def __invert__(self) -> Any:
        """``~sig``: send it and wait for its value."""
        return self.apply_async().get()

    def __or__(self, other: Any) -> Any:
        """``sig | other``: run ``other`` with its result."""
        from pyqs_celery.canvas.chain import joined

        return joined(self, other)

    __ior__ = __or__

    # -- as data -----------------------------------------------------------------------------------

    def __deepcopy__(self, memo: Any) -> Any:
        return self.clone()

    def __reduce__(self) -> Any:
        return dict, (dict(self),)

    def __json__(self) -> dict[str, Any]:
        return dict(self)

    def reprcall(self, *args: Any, **kwargs: Any) -> str:
        """``name(arguments)``, with more arguments before its own."""
        merged_args, merged_kwargs, _ = self._merge(args, kwargs, force=True)
        shown = [repr(arg) for arg in merged_args] + [f"{key}={value!r}" for key, value in merged_kwargs.items()]
        return f"{self['task']}({', '.join(shown)})"

    def __repr__(self) -> str:
        return self.reprcall()


def copy_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of their own for a copy: lists, mappings and links are copied, a chord's body is shared."""
    return {key: value if key == "chord" else _copy(value) for key, value in options.items()}


def _copy(value: Any) -> Any:
    if isinstance(value, Signature):
        return value.clone()
    if type(value) is list:
        return [_copy(each) for each in value]
    if type(value) is dict:
        return {key: _copy(each) for key, each in value.items()}
    return value


def signature(varies: Any, args: Any = None, kwargs: Any = None, options: Any = None, **extra: Any) -> Any:
    """A signature of a task, its name, or a signature's dictionary."""
    app = extra.pop("app", None)
    if isinstance(varies, Signature):
        return varies.clone()
    if isinstance(varies, Mapping):
        return Signature.from_dict(varies, app=app)
    return Signature(varies, args, kwargs, options, app=app, **extra)


def maybe_signature(value: Any, app: Any = None, clone: bool = False) -> Any:
    """A signature from its dictionary; None stays None, and a signature itself unless ``clone``."""
    if isinstance(value, Signature):
        value = value.clone() if clone else value
    elif isinstance(value, Mapping):
        value = Signature.from_dict(value, app=app)
    if app is not None and isinstance(value, Signature):
        value._app = app
    return value
