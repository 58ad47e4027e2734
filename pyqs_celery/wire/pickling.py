"""Pickles that Celery can read, and the reading of Celery's: its classes become ours, and an allow-list may forbid the rest.

Pickle runs code by design, so it is read only when ``accept_content`` names it, and then only in a child. With
``pickle_allowed_classes`` the classes a message may name are limited to those globs and the harmless ones below:

* a name is the whole path that the pickle gives, and what it leads to must bear that path itself, so that no glob lets in
  ``shop.models.os.system``, nor a class that ``shop.models`` has merely imported;
* a glob lets in classes only. A function is let in by its exact path, and may then be called with any arguments;
* classes cannot be changed: a pickle may set the state of objects that it has made, never of a class or function;
* what the harmless ones copy is counted, so that a megabyte of pickle cannot take gigabytes.
"""

from __future__ import annotations

import importlib
import io
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from fnmatch import fnmatchcase
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
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
"""Names that may always be loaded: none of them runs code, and the copies that some of them make are counted."""
MOST_COPIED = 64 * 1024 * 1024
"""Bytes that one restricted pickle may have copied by ``bytearray``, ``set`` and their like."""
_PLAIN_CODECS = frozenset({"latin1", "latin-1", "iso-8859-1", "ascii", "utf-8", "utf8"})

BILLIARD = frozenset({"SoftTimeLimitExceeded", "TimeLimitExceeded", "WorkerLostError", "Terminated"})
"""Exceptions that Celery takes from billiard, so that is the module its results name."""
_MEMO_WRITES = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_RENAMED = {"celery": "pyqs_celery", "billiard": "pyqs_celery"}


def loads(data: bytes, allowed: Sequence[str] | None = None) -> Any:
    """Unpickle a task body. Raises whatever pickle and the classes named raise.

    Pickles of Python 2 hold byte strings where Python 3 has text: ASCII ones become ``str``, others stay ``bytes``.
    """
    kind = unpickler_for(data, allowed)
    try:
        return kind(io.BytesIO(data), allowed).load()
    except UnicodeDecodeError:
        return _without_surrogates(kind(io.BytesIO(data), allowed, python_2=True).load())


def unpickler_for(data: bytes, allowed: Sequence[str] | None) -> Any:
    """The class to unpickle these bytes with; unless ``allowed`` is None it lets in no more than that, and the harmless.

    Raises UnpicklingError or ValueError for what asks for more memory than it has bytes.
    """
    has_state = _check_sizes(data)
    if allowed is None:
        return _Unpickler
    return _RestrictedWithState if has_state else _Restricted


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


def _check_sizes(data: bytes) -> bool:
    """Refuse what asks for more memory than it has bytes: a memo index or a length far beyond its own end.

    A flipped bit in a kilobyte of pickle could otherwise take twenty gigabytes. Gives whether the pickle sets the state of
    objects. Raises UnpicklingError or ValueError.
    """
    has_state = False
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in _MEMO_WRITES and int(argument or 0) > len(data):
            raise pickle.UnpicklingError(f"a memo index of {argument} in {len(data)} bytes")
        has_state = has_state or opcode.name == "BUILD"
    return has_state


class _Translating:
    """What both kinds of unpickler know of names: Celery's are ours."""

    def __init__(self, file: io.BytesIO, allowed: Sequence[str] | None, python_2: bool = False) -> None:
        codec = {"encoding": "ascii", "errors": "surrogateescape"} if python_2 else {}
        super().__init__(file, **codec)  # type: ignore[call-arg]
        self._allowed = tuple(allowed or ())
        self._python_2 = python_2
        self._copied = 0

    def find_class(self, module: str, name: str) -> Any:
        """The class or function of a name."""
        if module in ("celery.canvas", "pyqs_celery.canvas") and name in ("signature", "subtask"):
            return plain_signature
        if self._python_2 and module == "datetime" and name in _PYTHON_2_TIMES:
            return _PYTHON_2_TIMES[name]
        first, _, rest = module.partition(".")
        if first in _RENAMED:
            return _ours(module, f"{_RENAMED[first]}.{rest}" if rest else _RENAMED[first], name)
        return super().find_class(module, name)  # type: ignore[misc]


class _Checking(_Translating):
    """Lets in what is harmless or allowed."""

    def find_class(self, module: str, name: str) -> Any:
        """The class or function of a name, if it may be had. Raises UnpicklingError."""
        full = f"{module}.{name}".replace("__builtin__.", "builtins.")
        if full in HARMLESS or full.replace("pyqs_celery.", "celery.", 1) in HARMLESS:
            return self._counted(full) or super().find_class(module, name)
        if full == "builtins.getattr" and full not in self._allowed:
            return self._inner_class
        if full not in self._allowed:
            self._check(full)
        try:
            found = super().find_class(module, name)
        except (ImportError, AttributeError, ValueError) as exc:
            raise pickle.UnpicklingError(f"{full[:200]} is not to be found here: {type(exc).__name__}") from exc
        if full in self._allowed:
            return found
        renamed = module.partition(".")[0] in _RENAMED
        return self._class(found, full, renamed=f"pyqs_celery.{module.partition('.')[2]}.{name}" if renamed else full)

    def _class(self, found: Any, full: str, renamed: str) -> Any:
        """What was found, if it is a class and bears the path it was asked for by, or another that is allowed."""
        if not isinstance(found, type):
            raise pickle.UnpicklingError(f"{full} is no class; name it without a wildcard in pickle_allowed_classes")
        real = f"{found.__module__}.{found.__qualname__}"
        if real not in (full, renamed):
            self._check(real)
        return found

    def _inner_class(self, outer: Any = None, name: Any = None) -> Any:
        """How pickles before protocol 4 name a class within a class."""
        if not isinstance(outer, type) or not isinstance(name, str):
            raise pickle.UnpicklingError("getattr is for classes within classes")
        full = f"{outer.__module__}.{outer.__qualname__}.{name}"
        self._check(full)
        return self._class(vars(outer).get(name), full, full)

    def _check(self, full: str) -> None:
        if not any(fnmatchcase(full, pattern) for pattern in self._allowed):
            raise pickle.UnpicklingError(f"{full[:200]} is not in pickle_allowed_classes")

    def _counted(self, full: str) -> Callable[..., Any] | None:
        """A stand-in for what copies its argument."""
        kind = _COPYING.get(full)
        if kind is None:
            return None
        make = kind

        def copy(*args: Any) -> Any:
            for value in args[:1]:
                self._copied += 64 + len(value) * (1 if isinstance(value, (str, bytes, bytearray)) else 64)
            if self._copied > MOST_COPIED:
                raise pickle.UnpicklingError("it copies its own parts too often")
            return make(*args)

        return copy


class _Unpickler(_Translating, pickle.Unpickler):
    """For pickles that may name anything."""


class _Restricted(_Checking, pickle.Unpickler):
    """For pickles that may not, and hold nothing but values."""


_PythonUnpickler: Any = vars(pickle)["_Unpickler"]


class _RestrictedWithState(_Checking, _PythonUnpickler):  # type: ignore[misc]
    """For pickles that may not, and set the state of objects: C's unpickler would set that of classes too."""

    def load_build(self) -> None:
        """Set the state of an object that was made by this pickle, or that at least is no class and no function."""
        if isinstance(self.stack[-2], (type, *_CODE)):
            raise pickle.UnpicklingError("it would change a class or a function")
        super().load_build()

    dispatch: ClassVar[dict[Any, Any]] = {**_PythonUnpickler.dispatch, pickle.BUILD[0]: load_build}


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


def _encoded(text: str, codec: str = "", *rest: Any) -> bytes:
    """``codecs.encode`` as pickles of bytes use it; some other codecs take hours."""
    if codec not in _PLAIN_CODECS or rest:
        raise pickle.UnpicklingError(f"the codec {codec!r:.40} is not for pickles")
    return text.encode(codec)


def _bytearray(value: Any = b"", *rest: Any) -> bytearray:
    """``bytearray`` without its form that takes a size, which could ask for all memory."""
    if isinstance(value, str):
        return bytearray(value, *rest)
    if isinstance(value, (bytes, bytearray)) and not rest:
        return bytearray(value)
    raise pickle.UnpicklingError("a bytearray of something else than bytes")


_CODE = (FunctionType, BuiltinFunctionType, MethodType, ModuleType)
_COPYING: dict[str, Callable[..., Any]] = {
    "_codecs.encode": _encoded,
    "builtins.bytearray": _bytearray,
    "builtins.frozenset": frozenset,
    "builtins.set": set,
    "collections.OrderedDict": OrderedDict,
}


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
