"""The settings object: attributes and items, Celery's new and old names, read when first needed."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from pyqs_celery.app.config_idle import IDLE_DEFAULTS
from pyqs_celery.app.config_table import SETTINGS
from pyqs_celery.exceptions import ImproperlyConfigured

_ENVIRONMENT = {
    "broker_url": "CELERY_BROKER_URL",
    "broker_read_url": "CELERY_BROKER_READ_URL",
    "broker_write_url": "CELERY_BROKER_WRITE_URL",
    "result_backend": "CELERY_RESULT_BACKEND",
}
_MISSING = object()
STARS = "********"
"""What stands for a secret where settings are shown."""


_OLD_PREFIXES = {"worker_": "CELERYD_", "beat_": "CELERYBEAT_", "broker_": "BROKER_", "task_": "CELERY_"}


_OLD_NAMES_OF_NO_RULE = {
    "CELERY_ENABLE_REMOTE_CONTROL": "worker_enable_remote_control",
    "CELERY_SEND_EVENTS": "worker_send_task_events",
    "CELERY_SEND_TASK_SENT_EVENT": "task_send_sent_event",
    "CELERY_TASK_SERIALIZER": "task_serializer",
    "CELERYD_WORKER_LOST_WAIT": "worker_lost_wait",
}


def _old_names() -> dict[str, str]:
    """Celery 3's upper-case names. ``CELERY_`` stands before most; workers, beat and brokers have prefixes of their own."""
    found = {}
    for name in (*SETTINGS, *IDLE_DEFAULTS):
        for prefix, old in _OLD_PREFIXES.items():
            if name.startswith(prefix):
                found[old + name[len(prefix) :].upper()] = name
        if not name.startswith("task_"):
            found[f"CELERY_{name.upper()}"] = name
            if not name.startswith(("worker_", "beat_")):
                found.setdefault(name.upper(), name)
    found.update({setting.old: setting.name for setting in SETTINGS.values() if setting.old})
    return found | _OLD_NAMES_OF_NO_RULE


OLD_NAMES: dict[str, str] = _old_names()
"""Celery's upper-case names and the settings they are."""


def canonical(key: str, namespace: str | None = None) -> str | None:
    """The setting that ``key`` means, None for keys that are nobody's.

    With a namespace (``CELERY``) keys are ``CELERY_`` and the new name in capitals; old names keep working.
    """
    if key in SETTINGS or key in IDLE_DEFAULTS:
        return key
    if namespace and key.startswith(namespace):
        rest = key[len(namespace) :].lstrip("_") if not namespace.endswith("_") else key[len(namespace) :]
        if rest.isupper() and (rest.lower() in SETTINGS or rest.lower() in IDLE_DEFAULTS):
            return rest.lower()
    return OLD_NAMES.get(key)


class Settings(MutableMapping[str, Any]):
    """Settings by attribute or item, under any of their names.

    The environment's CELERY_BROKER_URL and kin win, as in Celery; then what is set on it, then the source given to
    ``config_from_object``, then the defaults. Keys that are nobody's are kept as they are.
    """

    _own = tuple(
        "_load _on_read _lock _is_loading _source _changes _defaults _known _environ _on_change _pid namespace".split()
    )

    def __init__(
        self,
        load: Callable[[], Mapping[str, Any]],
        environ: Mapping[str, str],
        on_change: Callable[[str], None] = lambda name: None,
        namespace: str | None = None,
        on_read: Callable[[], None] = lambda: None,
    ) -> None:
        self._load = load
        self._on_read = on_read
        self._begin_in_process()
        self._source: dict[str, Any] | None = None
        self._changes: dict[str, Any] = {}
        self._defaults: dict[str, Any] = {}
        self._known: dict[str, Any] = {}
        self._environ = environ
        self._on_change = on_change
        self.namespace = namespace

    def _begin_in_process(self) -> None:
        """A process may be forked while another thread of its parent reads the source; that lock would never be free again."""
        self._lock = threading.RLock()
        self._is_loading = False
        self._pid = os.getpid()

    def _read(self) -> dict[str, Any]:
        if self._source is not None:
            return self._source
        if self._pid != os.getpid():
            self._begin_in_process()
        with self._lock:
            if self._source is None and not self._is_loading:
                self._is_loading = True
                try:
                    self._source = normalise(self._load(), self.namespace)
                finally:
                    self._is_loading = False
                self._on_read()
            # a source that looks at the settings while it is read sees the defaults
            return {} if self._source is None else self._source

    def is_set(self, key: str) -> bool:
        """True if anybody gave this setting a value."""
        name = canonical(key) or key
        return name in self._changes or name in self._read() or _ENVIRONMENT.get(name, "") in self._environ

    def __getitem__(self, key: str) -> Any:
        name = canonical(key, self.namespace) or key
        variable = _ENVIRONMENT.get(name)
        if variable and self._environ.get(variable):
            return self._environ[variable]
        for layer in (self._changes, self._read()):
            if name in layer:
                return layer[name]
        if name in self._defaults:
            return self._defaults[name]
        if name in SETTINGS or name in IDLE_DEFAULTS:
            default = SETTINGS[name].default if name in SETTINGS else IDLE_DEFAULTS[name]
            # dictionaries may be changed in place, so each app gets its own
            return self._defaults.setdefault(name, dict(default) if isinstance(default, dict) else default)
        raise KeyError(key)

    def __setitem__(self, key: str, value: Any) -> None:
        name = canonical(key, self.namespace) or key
        self._changes[name] = checked(name, value)
        self._known = {}
        self._on_change(name)

    def __delitem__(self, key: str) -> None:
        name = canonical(key, self.namespace) or key
        found = self._changes.pop(name, _MISSING), self._read().pop(name, _MISSING)
        self._known = {}
        if found == (_MISSING, _MISSING):
            raise KeyError(key)
        self._on_change(name)

    def __iter__(self) -> Iterator[str]:
        return iter({**SETTINGS, **IDLE_DEFAULTS, **self._defaults, **self._read(), **self._changes})

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, str):
            return False
        name = canonical(key, self.namespace) or key
        known = (SETTINGS, IDLE_DEFAULTS, self._defaults, self._changes, self._read())
        return any(name in layer for layer in known)

    def __getattr__(self, key: str) -> Any:
        known: dict[str, Any] = self.__dict__["_known"]  # this very one: a change may put another in its place
        if key in known:
            return known[key]
        if key.startswith("__"):
            raise AttributeError(key)
        try:
            found = self[key]
        except KeyError as exc:
            raise AttributeError(f"no setting is called {key!r}") from exc
        if self._source is not None and canonical(key, self.namespace) not in _ENVIRONMENT:
            known[key] = found
        return found

    def __setattr__(self, key: str, value: Any) -> None:
        if key in self._own:
            object.__setattr__(self, key, value)
        else:
            self[key] = value

    def first(self, *keys: str) -> Any:
        """The first of these settings that has a value."""
        for key in keys:
            found = self.get(key)
            if found is not None:
                return found
        return None

    def find_value_for_key(self, name: str, namespace: str = "celery") -> Any:
        """``namespace_name``, as ``find_value_for_key("extended", "result")``."""
        return self[f"{namespace}_{name}"]

    def table(self, with_defaults: bool = True, censored: bool = True) -> dict[str, Any]:
        """The settings as a dictionary; secrets as stars if ``censored``."""
        shown = self if with_defaults else {**self._read(), **self._changes}
        return {key: _censored(key, self[key]) if censored else self[key] for key in sorted(shown)}

    def humanize(self, with_defaults: bool = False) -> str:
        """The settings as lines, secrets left out."""
        shown = self if with_defaults else {**self._read(), **self._changes}
        return "\n".join(f"{key}: {_censored(key, self[key])!r}" for key in sorted(shown))


def _censored(key: str, value: Any) -> Any:
    """A setting's value with stars for secrets, in dictionaries and lists too (keys of predefined queues, say)."""
    if isinstance(value, Mapping):
        return {name: _censored(str(name), item) for name, item in value.items()}
    if value is not None and any(word in key.lower() for word in ("secret", "password", "token", "key")):
        return STARS
    if isinstance(value, (list, tuple)):
        return [_censored(key, item) for item in value]
    if isinstance(value, str) and "://" in value and "@" in value:
        return f"{value.split('://')[0]}://{STARS}@{value.rpartition('@')[2]}"
    return value


def normalise(source: Mapping[str, Any], namespace: str | None) -> dict[str, Any]:
    """A source's values under the settings' names. Raises ImproperlyConfigured for old and new names mixed."""
    found: dict[str, Any] = {}
    new: list[str] = []
    old: list[str] = []
    for key, value in source.items():
        name = canonical(key, namespace)
        if name is None:
            found.setdefault(key, value)
            continue
        if not namespace:
            (new if key == name else old).append(key)
        found[name] = checked(name, value)
    if new and old:
        raise ImproperlyConfigured(
            f"the configuration mixes new setting names ({', '.join(sorted(new)[:5])}) with old ones "
            f"({', '.join(sorted(old)[:5])}); rename the old ones: {OLD_NAMES[min(old)]} for {min(old)}"
        )
    return found


_NUMBER_WORDS = {"number": (int, float), "whole": (int,)}


def checked(name: str, value: Any) -> Any:
    """The value of a setting, text turned into the number or flag it stands for. Raises ImproperlyConfigured."""
    setting = SETTINGS.get(name)
    if setting is None or value is None:
        return value
    if setting.kind in _NUMBER_WORDS and not isinstance(value, bool):
        if isinstance(value, _NUMBER_WORDS[setting.kind]):
            return value
        try:
            return int(value) if setting.kind == "whole" else float(value)
        except (TypeError, ValueError) as exc:
            raise ImproperlyConfigured(f"setting {name} must be a number, not {value!r}") from exc
    if setting.kind == "flag" and isinstance(value, str):
        word = value.strip().lower()
        if word not in _FLAGS:
            raise ImproperlyConfigured(f"setting {name} must be true or false, not {value!r}")
        return _FLAGS[word]
    if setting.kind == "dict" and not isinstance(value, Mapping):
        raise ImproperlyConfigured(f"setting {name} must be a dictionary, not {type(value).__name__}")
    if setting.kind == "list" and isinstance(value, str):
        return (value,)
    return value


_FLAGS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
    "": False,
}


def from_command_line(arguments: Iterable[str]) -> dict[str, Any]:
    """Settings out of ``key=value`` words: ``worker.x``, ``.x`` and ``x`` as Celery writes them, values as JSON or text."""
    found = {}
    for argument in arguments:
        key, _, text = argument.partition("=")
        name = f"worker_{key[1:]}" if key.startswith(".") else key.replace(".", "_")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found
