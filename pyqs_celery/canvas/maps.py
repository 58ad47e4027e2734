"""Many calls in one: ``map``, ``starmap`` and ``chunks``.

On the wire, and as copies inside other canvas, they are plain calls of Celery's built-in tasks ``celery.map``,
``celery.starmap`` and ``celery.chunks``.
https://docs.celeryq.dev/en/stable/userguide/canvas.html#map-starmap
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from pyqs_celery.canvas.group import group
from pyqs_celery.canvas.signature import Signature, maybe_signature


class _basemap(Signature):  # noqa: N801 - Celery's name
    """One message that calls a task for each item, in one worker."""

    _task_name = ""

    def __init__(self, task: Any, it: Any, **options: Any) -> None:
        app = options.get("app")
        parts = {"task": maybe_signature(task, app=app), "it": list(it)}
        super().__init__(self._task_name, (), parts, immutable=True, **options)

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Any = None) -> Any:
        """From its dictionary."""
        return cls(d["kwargs"]["task"], d["kwargs"]["it"], app=app, **d["options"])

    def apply_async(self, args: Any = None, kwargs: Any = None, route_name: Any = None, **options: Any) -> Any:
        """Send it, routed as the task that it calls."""
        route_name = route_name or self.kwargs["task"]["task"]
        return super().apply_async(args, kwargs, **options, **_routed(self, route_name, options))

    def __repr__(self) -> str:
        star = "*" if isinstance(self, xstarmap) else ""
        return f"[{self.kwargs['task']['task']}({star}x) for x in {repr(self.kwargs['it'])[:100]}]"


def _routed(sig: Signature, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The queue of another task, unless one is named."""
    if any(options.get(key) or sig.options.get(key) for key in ("queue", "exchange", "routing_key")):
        return {}
    return {"queue": sig.app.route_of(name, (), {}, {})}


@Signature.register_type("xmap")
class xmap(_basemap):  # noqa: N801 - Celery's name
    """``task.map(items)``: the list of ``task(item)``."""

    _task_name = "celery.map"


@Signature.register_type("xstarmap")
class xstarmap(_basemap):  # noqa: N801 - Celery's name
    """``task.starmap(items)``: the list of ``task(*item)``."""

    _task_name = "celery.starmap"


@Signature.register_type("chunks")
class chunks(Signature):  # noqa: N801 - Celery's name
    """``task.chunks(items, n)``: a group of messages that call the task for ``n`` items each, ``task(*item)``."""

    def __init__(self, task: Any, it: Any, n: int, **options: Any) -> None:
        parts = {"task": maybe_signature(task, app=options.get("app")), "it": list(it), "n": n}
        super().__init__("celery.chunks", (), parts, immutable=True, **options)

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Any = None) -> Any:
        """From its dictionary."""
        parts = d["kwargs"]
        return cls(parts["task"], parts["it"], parts["n"], app=app, **d["options"])

    def __call__(self, **options: Any) -> Any:
        """Send them."""
        return self.apply_async(**options)

    def apply_async(self, args: Any = None, kwargs: Any = None, route_name: Any = None, **options: Any) -> Any:
        """Send them as a group."""
        return self.group().apply_async(args, kwargs, **{**self.options, **options})

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Run them here."""
        return self.group().apply(args, kwargs, **{**self.options, **options})

    def group(self) -> Any:
        """The group that it is."""
        task, items, n = (self.kwargs[key] for key in ("task", "it", "n"))
        return group([xstarmap(task, part, app=self._app) for part in _parts(iter(items), n)], app=self._app)

    @classmethod
    def apply_chunks(cls, task: Any, it: Any, n: int, app: Any = None) -> Any:
        """Make and send them."""
        return cls(task, it, n, app=app)()


def _parts(items: Iterator[Any], n: int) -> Iterator[list[Any]]:
    if n < 1:
        raise ValueError(f"chunks hold one item at least, not {n}")
    while part := list(islice(items, n)):
        yield part
