"""Finding the app that ``-A`` names, and importing the modules that hold its tasks."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterable
from datetime import datetime
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pyqs_celery import signals
from pyqs_celery.exceptions import ImproperlyConfigured
from pyqs_celery.local_proxy import maybe_evaluate
from pyqs_celery.utils.imports import cwd_in_path, symbol_by_name

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery

Packages = Iterable[str] | Callable[[], Iterable[str]] | None


class AppNotFound(ImproperlyConfigured):
    """``-A`` names no application."""


class Loader:
    """Imports for one app."""

    def __init__(self, app: Celery) -> None:
        self.app = app
        self._discoveries: list[tuple[Packages, str | None]] = []

    def discover(self, packages: Packages, related_name: str | None) -> None:
        """Remember packages to look for tasks in."""
        self._discoveries.append((packages, related_name))

    def import_default_modules(self) -> list[ModuleType]:
        """Import ``imports``, ``include`` and what autodiscovery finds; receivers of ``import_modules`` are called."""
        answers = signals.import_modules.send(sender=self.app)
        for _, answer in answers:
            if isinstance(answer, Exception):
                raise answer
        conf = self.app.conf
        names = dict.fromkeys((*_as_list(conf.imports), *_as_list(conf.include)))
        with cwd_in_path():
            modules = [importlib.import_module(name) for name in names]
            return modules + self.autodiscover()

    def import_task_module(self, module: str) -> ModuleType:
        """Import one module of tasks."""
        return self.import_from_cwd(module)

    def import_module(self, module: str, package: str | None = None) -> ModuleType:
        """Import a module."""
        return importlib.import_module(module, package=package)

    def import_from_cwd(self, module: str, imp: Any = None, package: str | None = None) -> ModuleType:
        """Import a module, also from the current folder."""
        with cwd_in_path():
            return self.import_module(module, package)

    def now(self, utc: bool = True) -> datetime:
        """The present."""
        return self.app.now()

    def init_worker(self) -> None:
        """Import everything a worker runs."""
        self.import_default_modules()

    def autodiscover(self) -> list[ModuleType]:
        """Import the remembered packages' task modules. A package without one is passed over; one that fails raises."""
        found = []
        for packages, related_name in self._discoveries:
            names = packages() if callable(packages) else packages
            for package in _installed_apps() if names is None else names:
                module = find_related_module(package, related_name)
                if module is not None:
                    found.append(module)
        return found


def _as_list(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def _installed_apps() -> list[str]:
    """Django's INSTALLED_APPS by the modules of their configurations; nothing without Django."""
    try:
        from django.apps import apps
        from django.conf import settings
    except ImportError:
        return []
    if not settings.configured and not getattr(settings, "INSTALLED_APPS", None):
        return []
    return [config.name for config in apps.get_app_configs()] if apps.ready else list(settings.INSTALLED_APPS)


def find_related_module(package: str, related_name: str | None) -> ModuleType | None:
    """``package.related_name``, or None if there is none. An error inside it is raised."""
    try:
        module = importlib.import_module(package)
        if not related_name and module:
            return module
    except ModuleNotFoundError as exc:
        # an AppConfig's path in INSTALLED_APPS: the package is its first part
        parent = package.rpartition(".")[0]
        if exc.name != package or not parent:
            raise
        return find_related_module(parent, related_name)
    name = f"{package}.{related_name}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is not None and (name == exc.name or name.startswith(exc.name + ".")):
            return None
        raise


def find_app(spec: str) -> Any:
    """The app that ``-A`` names, by Celery's rules. Raises AppNotFound with what was looked for.

    ``proj`` is the module's ``app`` or ``celery``, or its submodule ``proj.celery``, or any app in it;
    ``proj.module:name`` and ``proj.module.name`` name it outright.
    https://docs.celeryq.dev/en/stable/getting-started/next-steps.html#about-the-app-argument
    """
    with cwd_in_path():
        try:
            found = symbol_by_name(spec) if ":" in spec else _by_dots(spec)
        except AppNotFound:
            raise
        except AttributeError as exc:
            raise AppNotFound(f"-A {spec}: {exc}") from exc
        except ImportError as exc:
            raise AppNotFound(f"-A {spec} cannot be imported: {exc}") from exc
        found = maybe_evaluate(found)
        if isinstance(found, ModuleType):
            found = _app_in(found, spec)
    if not _is_app(found):
        raise AppNotFound(
            f"-A {spec} is {type(found).__name__}, not a Celery application of pyqs_celery" + _hint(found)
        )
    return found


def _hint(found: Any) -> str:
    if type(found).__module__.split(".")[0] == "celery":
        return "; it is one of Celery's own: import Celery from pyqs_celery there"
    return ""


def _by_dots(spec: str) -> Any:
    try:
        return importlib.import_module(spec)
    except ModuleNotFoundError as exc:
        if exc.name is None or not (spec == exc.name or spec.startswith(exc.name + ".")) or "." not in spec:
            raise
        return symbol_by_name(spec)


def _app_in(module: ModuleType, spec: str) -> Any:
    for name in ("app", "celery"):
        found = getattr(module, name, None)
        if found is not None and not isinstance(found, ModuleType):
            return maybe_evaluate(found)
    if hasattr(module, "__path__"):
        try:
            inner = importlib.import_module(f"{module.__name__}.celery")
        except ModuleNotFoundError as exc:
            if exc.name != f"{module.__name__}.celery":
                raise AppNotFound(f"-A {spec}: {module.__name__}.celery cannot be imported: {exc}") from exc
        else:
            return _app_in(inner, spec)
    apps = [value for value in vars(module).values() if _is_app(value)]
    if apps:
        return apps[0]
    raise AppNotFound(
        f"-A {spec}: the module {module.__name__} holds no Celery application (looked for app, celery, {module.__name__}.celery "
        "and any instance); write -A module:name"
    )


def _is_app(value: Any) -> bool:
    from pyqs_celery.app.base import Celery

    return isinstance(value, Celery)
