"""``install_as_celery()``: ``import celery`` gives this package, for third-party packages that name Celery themselves.

A finder answers for ``celery`` and every ``celery.X`` in the table below with the very module of ours, so that a name
patched in one is patched in the other. It stands behind finders that are there already, since agents wait for these
imports. The top module is a facade: its version is that of the Celery we are compatible with.
https://docs.celeryq.dev/en/stable/reference/index.html
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

from pyqs_celery.exceptions import CeleryWarning

CELERY_VERSION = "5.7.0"
DOCS = "docs/integrations.rst"
PATH = "pyqs_celery:alias"

_SAME = """
    _state app app.amqp app.base app.control app.defaults app.log app.registry app.routes app.task app.trace backends
    backends.base backends.database beat bootsteps canvas concurrency concurrency.prefork contrib contrib.django
    contrib.django.task contrib.pytest contrib.testing contrib.testing.app contrib.testing.tasks contrib.testing.worker
    exceptions fixups fixups.django loaders loaders.base platforms registry result schedules signals states utils
    utils.abstract utils.collections utils.dispatch utils.graph utils.imports utils.log utils.nodenames
    utils.serialization utils.time worker worker.request worker.strategy
"""
MODULES: dict[str, str] = {f"celery.{name}": f"pyqs_celery.{name}" for name in _SAME.split()}
MODULES |= {"celery.local": "pyqs_celery.local_proxy", "celery.utils.uuid": "pyqs_celery.utils.ids"}
"""Celery's modules and ours, pair by pair."""
PYQS_NAMES = frozenset({"task", "events", "main", "local", "install_as_celery"})
"""Names of ours that are PyQS's or our own, and mean something else in Celery or nothing."""
HOOKED = (
    "celery.local",
    "celery.app.trace",
    "celery.app.task",
    "celery.worker",
    "celery.concurrency.prefork",
    "celery.loaders.base",
)
"""Modules whose import agents wait for; nobody else would import them under these names."""


class _Loader(Loader):
    """Gives a module of ours under Celery's name."""

    def __init__(self, target: str | None) -> None:
        self.target = target
        self._spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        """Our module, or for ``celery`` itself a facade."""
        if self.target is None:
            return Facade(spec.name)
        module = importlib.import_module(self.target)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing runs twice; hooks that look at the name see Celery's."""
        if self.target is None:
            return
        spec = module.__spec__
        assert spec is not None
        module.__name__ = spec.name
        module.__spec__ = self._spec


class Facade(types.ModuleType):
    """The module ``celery``: everything of this package, with Celery's version."""

    __version__ = CELERY_VERSION
    VERSION = version_info = (5, 7, 0, "", "")
    SERIES = "pyqs-celery"

    def __init__(self, name: str) -> None:
        super().__init__(name, "pyqs-celery under Celery's name.")
        self.__path__ = [PATH]
        self.__file__ = __file__

    def __getattr__(self, name: str) -> Any:
        full = f"celery.{name}"
        if full in MODULES:
            return importlib.import_module(full)
        import pyqs_celery

        found = None if name in PYQS_NAMES else getattr(pyqs_celery, name, None)
        if found is None:
            raise AttributeError(
                f"celery.{name}: pyqs-celery stands in for Celery here and has no {name!r}; see {DOCS}"
            )
        return found

    def __dir__(self) -> list[str]:
        import pyqs_celery

        return sorted({*dir(pyqs_celery), *(name.split(".")[1] for name in MODULES)})


class _Finder(MetaPathFinder):
    """Answers for ``celery`` and what is below it, with an error that names us for what we do not have."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        if fullname == "celery":
            return ModuleSpec(fullname, _Loader(None), is_package=True)
        if not fullname.startswith("celery."):
            return None
        ours = MODULES.get(fullname)
        if ours is None:
            _import_for_ourselves(fullname)
            raise ModuleNotFoundError(
                f"No module named {fullname!r}: pyqs-celery stands in for Celery here and has no such module; see {DOCS}",
                name=fullname,
            )
        found = importlib.util.find_spec(ours)
        is_package = bool(found is not None and found.submodule_search_locations is not None)
        return ModuleSpec(fullname, _Loader(ours), origin=found.origin if found else None, is_package=is_package)


def _import_for_ourselves(fullname: str) -> None:
    """Import a part of a package of ours that Celery has not, for ``from pyqs_celery.backends import exceptions``.

    The package calls itself by Celery's name once that was imported, so Python asks for its parts by that name; it takes the
    part from the package even if the answer is that there is no such module, and that stays the answer for everybody else.
    """
    package, _, name = fullname.rpartition(".")
    if package in MODULES and importlib.util.find_spec(f"{MODULES[package]}.{name}") is not None:
        importlib.import_module(f"{MODULES[package]}.{name}")


def install_as_celery() -> None:
    """Have ``import celery`` give this package in this process, whether or not Celery is installed.

    Call it before anything imports ``celery``: at the top of the settings or of the module that makes the application.
    Modules of the real Celery that are imported already are forgotten, with a warning: whoever holds names of theirs keeps
    them. Calling it again does nothing.
    """
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    real = [name for name in sys.modules if name == "celery" or name.startswith("celery.")]
    if real:
        warnings.warn(
            f"install_as_celery() comes after {len(real)} modules of the real Celery were imported; call it earlier, "
            "else names taken from them stay Celery's",
            CeleryWarning,
            stacklevel=2,
        )
        for name in real:
            del sys.modules[name]
    places = [index for index, finder in enumerate(sys.meta_path) if finder is PathFinder]
    sys.meta_path.insert(places[0] if places else len(sys.meta_path), _Finder())
    for name in HOOKED:
        importlib.import_module(name)
