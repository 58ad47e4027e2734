"""Pickles that Celery can read, and the reading of Celery's: its classes become ours, and an allow-list may forbid the rest.

Pickle runs code by design, so it is read only when ``accept_content`` names it, and then only in a child. With
``pickle_allowed_classes`` the classes a message may name are limited to those globs and the harmless ones below.
"""

from __future__ import annotations

import importlib
import io
import pickle
import pickletools
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from fnmatch import fnmatchcase
from types import FunctionType
from typing import Any, ClassVar

HARMLESS = frozenset(
    {
        "builtins.bytearray",
        "builtins.complex",
        "builtins.frozenset",
        "builtins.set",
        "_codecs.encode",
        "collections.OrderedDict",
        "datetime.date",
        "datetime.datetime",
        "datetime.time",
        "datetime.timedelta",
        "datetime.timezone",
        "decimal.Decimal",
        "uuid.UUID",
        "celery.canvas.signature",
        "celery.canvas.subtask",
        "celery.canvas._basemap",
    }
)
"""Names that may always be loaded: none of them runs code or asks for memory beyond its data."""

BILLIARD = frozenset({"SoftTimeLimitExceeded", "TimeLimitExceeded", "WorkerLostError", "Terminated"})
"""Exceptions that Celery takes from billiard, so that is the module its results name."""
_MEMO_WRITES = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_RENAMED = {"celery": "pyqs_celery", "billiard": "pyqs_celery"}


def loads(data: bytes, allowed: Sequence[str] | None = None) -> Any:
    """Unpickle a task body. Raises whatever pickle and the classes named raise.

    Pickles of Python 2 hold byte strings where Python 3 has text: ASCII ones become ``str``, others stay ``bytes``.
    """
    _check_sizes(data)
    try:
        return _Unpickler(io.BytesIO(data), allowed).load()
    except UnicodeDecodeError:
        found = _Unpickler(io.BytesIO(data), allowed, python_2=True).load()
        return _without_surrogates(found)


def dumps(value: Any) -> bytes:
    """Pickle a value as kombu does; classes of ours are named as Celery's, so that a Celery process can load them."""
    data = pickle.dumps(value, protocol=pickle.DEFAULT_PROTOCOL)
    if b"pyqs_celery" not in data:
        return data
    file = io.BytesIO()
    _NamingPickler(file, protocol=pickle.DEFAULT_PROTOCOL).dump(value)
    return file.getvalue()


_PythonPickler: Any = vars(pickle)["_Pickler"]
"""The pickler written in Python: C's lets no name be changed."""


class _NamingPickler(_PythonPickler):  # type: ignore[misc]
    """Writes classes of this package under the names that they have in Celery."""

    def save_global(self, obj: Any, name: str | None = None) -> None:
        module = celery_module(obj)
        if module is None:
            super().save_global(obj, name)
            return
        self.save(module)
        self.save(name or obj.__qualname__)
        self.write(pickle.STACK_GLOBAL)
        self.memoize(obj)

    dispatch: ClassVar[dict[Any, Any]] = {**_PythonPickler.dispatch, FunctionType: save_global}


def celery_module(cls: Any) -> str | None:
    """The module in which Celery keeps what this class or function of ours stands for; None for what is not ours."""
    module = getattr(cls, "__module__", None) or ""
    first, _, rest = str(module).partition(".")
    if first != "pyqs_celery":
        return None
    if rest == "exceptions" and getattr(cls, "__name__", "") in BILLIARD:
        return "billiard.exceptions"
    return f"celery.{rest}" if rest else "celery"


def _check_sizes(data: bytes) -> None:
    """Refuse what asks for more memory than it has bytes: a memo index or a length far beyond its own end.

    A flipped bit in a kilobyte of pickle could otherwise take twenty gigabytes. Raises UnpicklingError or ValueError.
    """
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in _MEMO_WRITES and int(argument or 0) > len(data):
            raise pickle.UnpicklingError(f"a memo index of {argument} in {len(data)} bytes")


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, allowed: Sequence[str] | None, python_2: bool = False) -> None:
        if python_2:
            super().__init__(file, encoding="ascii", errors="surrogateescape")
        else:
            super().__init__(file)
        self._allowed = allowed
        self._python_2 = python_2

    def find_class(self, module: str, name: str) -> Any:
        if self._allowed is not None:
            self._check(module, name)
        if module in ("celery.canvas", "pyqs_celery.canvas") and name in ("signature", "subtask"):
            return plain_signature
        if self._allowed is not None and (module, name) in (("builtins", "bytearray"), ("__builtin__", "bytearray")):
            return _bytearray
        if self._python_2 and module == "datetime" and name in _PYTHON_2_TIMES:
            return _PYTHON_2_TIMES[name]
        first, _, rest = module.partition(".")
        if first in _RENAMED:
            return _ours(module, f"{_RENAMED[first]}.{rest}" if rest else _RENAMED[first], name)
        return super().find_class(module, name)

    def _check(self, module: str, name: str) -> None:
        full = f"{module}.{name}".replace("__builtin__.", "builtins.")
        if full in HARMLESS or full.replace("pyqs_celery.", "celery.", 1) in HARMLESS:
            return
        if not any(fnmatchcase(full, pattern) for pattern in self._allowed or ()):
            raise pickle.UnpicklingError(f"{full} is not in pickle_allowed_classes")


def _ours(module: str, our_module: str, name: str) -> Any:
    """A class of Celery's by our name for it."""
    try:
        found: Any = importlib.import_module(our_module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as exc:
        raise pickle.UnpicklingError(f"{module}.{name} has no counterpart here") from exc
    return found


def plain_signature(value: Any, *_: Any, **__: Any) -> Any:
    """What pickled signatures call to rebuild themselves: here they stay the dictionaries they are."""
    return dict(value) if isinstance(value, dict) else value


def _bytearray(value: Any = b"", *rest: Any) -> bytearray:
    """``bytearray`` without its form that takes a size, which could ask for all memory."""
    if isinstance(value, str):
        return bytearray(value, *rest)
    if isinstance(value, (bytes, bytearray)):
        return bytearray(value)
    raise pickle.UnpicklingError("a bytearray of something else than bytes")


def _from_python_2(kind: Callable[..., Any]) -> Callable[..., Any]:
    def make(*args: Any) -> Any:
        if args and isinstance(args[0], str):
            args = (args[0].encode("ascii", "surrogateescape"), *args[1:])
        return kind(*args)

    return make


_PYTHON_2_TIMES = {kind.__name__: _from_python_2(kind) for kind in (date, datetime, time)}


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return value.encode("ascii", "surrogateescape")
        return value
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(_without_surrogates(item) for item in value)
    if type(value) is dict:
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value
