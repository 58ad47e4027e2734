"""A task call as a dictionary: what ``task.s(1, 2)`` gives, what links are made of, and how it travels.

Layout and merging rules: https://docs.celeryq.dev/en/stable/userguide/canvas.html#signatures
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyqs_celery import _state


class Signature(dict[str, Any]):
    """One call: ``task``, ``args``, ``kwargs``, ``options``, ``subtask_type``, ``immutable``.

    It pickles and dumps to plain data, so that any worker can read a message it lies in.
    """

    _app: Any = None

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
    def from_dict(cls, d: Mapping[str, Any], app: Any = None) -> Signature:
        """A signature from its dictionary."""
        return cls(d, app=app)

    @property
    def app(self) -> Any:
        """The app it is bound to, or the current one."""
        return self._app or _state.get_current_app()

    @property
    def name(self) -> Any:
        """The task's name."""
        return self["task"]

    task = name

    @property
    def args(self) -> Any:
        """Its positional arguments."""
        return self["args"]

    @property
    def kwargs(self) -> Any:
        """Its keyword arguments."""
        return self["kwargs"]

    @property
    def options(self) -> Any:
        """Its options, those of ``apply_async``."""
        return self["options"]

    @property
    def immutable(self) -> bool:
        """True if it takes no arguments of others."""
        return bool(self.get("immutable"))

    @property
    def type(self) -> Any:
        """The task itself, if it is registered here."""
        return self.app.tasks[self["task"]]

    @property
    def id(self) -> str | None:
        """Its task id, once it has one."""
        found: str | None = self.options.get("task_id")
        return found

    def _merge(self, args: Any, kwargs: Any, options: Any) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
        """Arguments come before its own; an immutable one takes options only."""
        merged = {**self.options, **(options or {})}
        if self.immutable:
            return tuple(self.args), dict(self.kwargs), merged
        return (*(args or ()), *self.args), {**self.kwargs, **(kwargs or {})}, merged

    def clone(self, args: Any = None, kwargs: Any = None, **options: Any) -> Signature:
        """A copy, with more arguments and options."""
        merged_args, merged_kwargs, merged = self._merge(args, kwargs, options)
        return Signature(
            self["task"],
            merged_args,
            merged_kwargs,
            merged,
            subtask_type=self.get("subtask_type"),
            immutable=self.immutable,
            app=self._app,
        )

    def set(self, immutable: bool | None = None, **options: Any) -> Signature:
        """Change options in place."""
        if immutable is not None:
            self["immutable"] = immutable
        self.options.update(options)
        return self

    def link(self, callback: Any) -> Any:
        """Run ``callback`` with the result when it succeeds."""
        self.options.setdefault("link", []).append(callback)
        return callback

    def link_error(self, errback: Any) -> Any:
        """Run ``errback`` when it fails."""
        self.options.setdefault("link_error", []).append(errback)
        return errback

    def on_error(self, errback: Any) -> Signature:
        """``link_error``, giving the signature back."""
        self.link_error(errback)
        return self

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Send it."""
        merged_args, merged_kwargs, merged = self._merge(args, kwargs, options)
        task = self.app.tasks.get(self["task"])
        if task is not None:
            return task.apply_async(merged_args, merged_kwargs, **merged)
        return self.app.send_task(self["task"], merged_args, merged_kwargs, **merged)

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        """Send it with more arguments."""
        return self.apply_async(args, kwargs)

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Run it here."""
        merged_args, merged_kwargs, merged = self._merge(args, kwargs, options)
        return self.type.apply(merged_args, merged_kwargs, **merged)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the task's function here and now."""
        merged_args, merged_kwargs, _ = self._merge(args, kwargs, None)
        return self.type(*merged_args, **merged_kwargs)

    def __reduce__(self) -> Any:
        return dict, (dict(self),)

    def __json__(self) -> dict[str, Any]:
        return dict(self)

    def __repr__(self) -> str:
        shown = [repr(arg) for arg in self.args] + [f"{key}={value!r}" for key, value in self.kwargs.items()]
        return f"{self['task']}({', '.join(shown)})"

    def __or__(self, other: Any) -> Any:
        raise NotImplementedError(
            "chains, groups and chords are not in this release of pyqs-celery; use link=, or send them from Celery"
        )


def signature(varies: Any, args: Any = None, kwargs: Any = None, options: Any = None, **extra: Any) -> Signature:
    """A signature of a task, its name, or a signature's dictionary."""
    app = extra.pop("app", None)
    if isinstance(varies, Mapping):
        if isinstance(varies, Signature):
            return varies.clone()
        return Signature.from_dict(varies, app=app)
    return Signature(varies, args, kwargs, options, app=app, **extra)


def maybe_signature(value: Any, app: Any = None) -> Any:
    """A signature from its dictionary; None stays None."""
    if isinstance(value, Mapping) and not isinstance(value, Signature):
        return Signature.from_dict(value, app=app)
    if isinstance(value, Signature) and app is not None:
        value._app = app
    return value
