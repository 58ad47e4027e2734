"""An object that stands for another, found when it is first used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_MISSING = object()


class Proxy:
    """Stands for what ``find()`` gives at each use; ``once=True`` looks it up a single time."""

    __slots__ = ("__dict__", "__proxy_find", "__proxy_found", "__proxy_once", "__weakref__")

    def __init__(self, find: Callable[[], Any], *, once: bool = False, name: str | None = None) -> None:
        object.__setattr__(self, "_Proxy__proxy_find", find)
        object.__setattr__(self, "_Proxy__proxy_once", once)
        object.__setattr__(self, "_Proxy__proxy_found", _MISSING)

    def _get_current_object(self) -> Any:
        found = object.__getattribute__(self, "_Proxy__proxy_found")
        if found is _MISSING:
            found = object.__getattribute__(self, "_Proxy__proxy_find")()
            if object.__getattribute__(self, "_Proxy__proxy_once"):
                object.__setattr__(self, "_Proxy__proxy_found", found)
        return found

    def __getattribute__(self, name: str) -> Any:
        if name in ("_get_current_object", "_Proxy__proxy_found"):
            return object.__getattribute__(self, name)
        return getattr(object.__getattribute__(self, "_get_current_object")(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._get_current_object(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._get_current_object(), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the object this stands for."""
        return self._get_current_object()(*args, **kwargs)

    def __bool__(self) -> bool:
        return bool(self._get_current_object())

    def __repr__(self) -> str:
        return repr(self._get_current_object())

    def __str__(self) -> str:
        return str(self._get_current_object())

    def __eq__(self, other: object) -> bool:
        return bool(self._get_current_object() == other)

    def __hash__(self) -> int:
        return hash(self._get_current_object())

    def __dir__(self) -> list[str]:
        return dir(self._get_current_object())

    def __len__(self) -> int:
        return len(self._get_current_object())

    def __iter__(self) -> Any:
        return iter(self._get_current_object())

    def __getitem__(self, key: Any) -> Any:
        return self._get_current_object()[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._get_current_object()[key] = value

    def __contains__(self, key: Any) -> bool:
        return key in self._get_current_object()

    def __or__(self, other: Any) -> Any:
        return self._get_current_object() | other

    def __reduce__(self) -> Any:
        return self._get_current_object().__reduce__()


def maybe_evaluate(value: Any) -> Any:
    """What a proxy stands for; anything else as it is."""
    return value._get_current_object() if type(value) is Proxy else value
