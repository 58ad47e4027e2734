"""``@app.task(pydantic=True)``: arguments that are models arrive as models, and a model that is returned leaves as data.

https://docs.celeryq.dev/en/stable/userguide/tasks.html#argument-validation-with-pydantic
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from pyqs_celery.exceptions import ImproperlyConfigured

OPTIONS = ("pydantic_strict", "pydantic_context", "pydantic_dump_kwargs")


def _pydantic() -> Any:
    try:
        import pydantic
    except ImportError as exc:
        raise ImproperlyConfigured(
            "a task with pydantic=True needs pydantic: pip install 'pyqs-celery[pydantic]'"
        ) from exc
    return pydantic


def wrap(fun: Callable[..., Any], app: Any, name: str, options: Mapping[str, Any]) -> Callable[..., Any]:
    """``fun`` with its annotated arguments validated and its model dumped. Raises pydantic's ValidationError at the call."""
    model = _pydantic().BaseModel
    signature = inspect.signature(fun)
    strict = bool(options.get("pydantic_strict"))
    context = {**(options.get("pydantic_context") or {}), "celery_app": app, "celery_task_name": name}
    dumping = {"mode": "json", **(options.get("pydantic_dump_kwargs") or {})}

    def prepared(args: Any, kwargs: Any) -> inspect.BoundArguments:
        bound = signature.bind(*args, **kwargs)
        hints = typing.get_type_hints(fun)
        for argument, value in bound.arguments.items():
            wanted = _model_of(hints.get(argument), model)
            if wanted is not None and value is not None:
                bound.arguments[argument] = wanted.model_validate(value, strict=strict, context=context)
        return bound

    def dumped(value: Any) -> Any:
        return value.model_dump(**dumping) if isinstance(value, model) else value

    if inspect.iscoroutinefunction(fun):

        @wraps(fun)
        async def run_async(*args: Any, **kwargs: Any) -> Any:
            bound = prepared(args, kwargs)
            return dumped(await fun(*bound.args, **bound.kwargs))

        return run_async

    @wraps(fun)
    def run(*args: Any, **kwargs: Any) -> Any:
        bound = prepared(args, kwargs)
        return dumped(fun(*bound.args, **bound.kwargs))

    return run


def _model_of(hint: Any, model: Any) -> Any:
    """The model class of an annotation ``Model`` or ``Model | None``; None for any other."""
    if isinstance(hint, type) and issubclass(hint, model):
        return hint
    members = [member for member in typing.get_args(hint) if member is not type(None)]
    if len(members) == 1 and len(typing.get_args(hint)) == 2:
        return _model_of(members[0], model)
    return None


def dump_arguments(args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Arguments of a call with the models among them as data, as Celery 5.7 sends them."""
    model = _pydantic().BaseModel

    def plain(value: Any) -> Any:
        return value.model_dump(mode="json") if isinstance(value, model) else value

    return (
        [plain(each) for each in args] if args is not None else None,
        {key: plain(value) for key, value in kwargs.items()} if kwargs is not None else None,
    )
