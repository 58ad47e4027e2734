"""Values as Celery's SQL tables hold them: pickled up to 5.6, as ``result_serializer`` writes them in 5.7.

Both versions read a pickle, so that is what we write. Celery unpickles these columns whatever ``accept_content`` says,
since who may write to the database may do so anyway. We do not go that far: unless ``pickle`` is among
``result_accept_content`` (or ``accept_content``), a pickle may hold plain data, Celery's results, and exceptions of
classes that this process has loaded; nothing is imported for it. ``pickle_allowed_classes`` may add to that.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from pyqs_celery.backends import exceptions
from pyqs_celery.result import AsyncResult
from pyqs_celery.result_base import ResultBase
from pyqs_celery.result_sets import GroupResult
from pyqs_celery.utils.serialization import create_exception_cls
from pyqs_celery.wire import pickling

PICKLE_STARTS = b"\x80"
_RESULTS = ("celery.result", "pyqs_celery.result")
_UNPICKLE_RESULT = ("celery.app.base", "_unpickle_appattr")


def is_pickle(data: bytes) -> bool:
    """True for a pickle; one byte 0x80 alone is msgpack's empty dictionary."""
    return data.startswith(PICKLE_STARTS) and len(data) > 2 and data[1] <= pickle.HIGHEST_PROTOCOL


def dumps(value: Any) -> bytes:
    """Pickle a value; results are written without their back end, and with the steps before them."""
    return pickling.dumps(_Portable.of(value) if isinstance(value, ResultBase) else value)


class _Portable:
    """A result on its way into a pickle, as a call of its class."""

    def __init__(self, cls: Any, *args: Any) -> None:
        self._call = cls, args

    @classmethod
    def of(cls, result: Any) -> Any:
        if result is None:
            return None
        parent = cls.of(result.parent)
        if isinstance(result, GroupResult):
            return cls(GroupResult, result.id, [cls.of(member) for member in result.results], parent)
        return cls(AsyncResult, result.id, None, None, None, parent)

    def __reduce__(self) -> Any:
        return self._call


def loads(data: bytes, app: Any, *, trusted: bool, standins: bool = False) -> Any:
    """What a pickle holds; its results belong to ``app``.

    ``trusted`` lets it name any class that ``pickle_allowed_classes`` does. With ``standins`` a class that is not loaded
    here is taken for an exception, and one of its name is made up. Raises ValueError for what cannot or may not be read.
    """
    allowed: Sequence[str] | None = app.conf.pickle_allowed_classes
    allowed = allowed if trusted or allowed is not None else ()
    try:
        kind = _of_results(pickling.unpickler_for(data, allowed))
        return kind(io.BytesIO(data), allowed, app=app, standins=standins and not trusted).load()
    except Exception as exc:  # a broken pickle raises anything, and so do classes that are rebuilt
        raise ValueError(f"{type(exc).__name__}: {exc}") from exc


@cache
def _of_results(unpickler: Any) -> Any:
    """An unpickler that also knows what results are made of, and asks ``unpickler`` about the rest."""
    return type("ResultUnpickler", (_NamesOfResults, unpickler), {})


class _NamesOfResults:
    def __init__(self, *args: Any, app: Any, standins: bool) -> None:
        super().__init__(*args)
        self._app = app
        self._standins = standins
        self._results: dict[str, Callable[..., Any]] = {
            "AsyncResult": self._async_result,
            "GroupResult": self._group_result,
        }

    def find_class(self, module: str, name: str) -> Any:
        rebuild = self._of_celery(module, name)
        if rebuild is not None:
            return rebuild
        found = exceptions._known_class(name, module)
        if isinstance(found, type) and issubclass(found, BaseException):
            return found
        if self._standins and found is None:
            return create_exception_cls(name, module)
        return super().find_class(module, name)  # type: ignore[misc]

    def _of_celery(self, module: str, name: str) -> Callable[..., Any] | None:
        """What stands for the things of Celery's own that results are made of."""
        if module in _RESULTS:
            return self._results.get(name)
        if (module, name) == _UNPICKLE_RESULT:
            return self._bound_result
        return _no_backend if module.startswith("celery.backends.") else None

    def _bound_result(self, name: str, args: Sequence[Any]) -> Any:
        return self._results[name](*args)

    def _async_result(
        self, task_id: str, backend: Any = None, name: Any = None, app: Any = None, parent: Any = None
    ) -> Any:
        return self._app.AsyncResult(task_id, task_name=name, parent=parent)

    def _group_result(self, group_id: str, results: Any, parent: Any = None) -> Any:
        return self._app.GroupResult(group_id, results, parent=parent)


def _no_backend(*args: Any) -> None:
    """Results are read from the back end that they were found in, not from the one they were pickled with."""
