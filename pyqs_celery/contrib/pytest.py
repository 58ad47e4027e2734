"""Celery's pytest fixtures: ``pytest_plugins = ("pyqs_celery.contrib.pytest",)`` in a conftest.

Queues live in this process (``memory://``), results too, and the worker is a real one in threads.
https://docs.celeryq.dev/en/stable/userguide/testing.html#pytest
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pyqs_celery.contrib.testing.app import TestApp, setup_default_app
from pyqs_celery.contrib.testing.worker import TestWorker, start_worker

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery


def pytest_configure(config: Any) -> None:
    """Know the marker ``celery``."""
    config.addinivalue_line("markers", "celery(**overrides): override celery configuration for a test case")


@contextmanager
def _create_app(
    enable_logging: bool = False, use_trap: bool = False, parameters: Mapping[str, Any] | None = None, **config: Any
) -> Iterator[Celery]:
    chosen = {"set_as_current": False, "enable_logging": enable_logging, **(parameters or {})}
    test_app = TestApp(config=config, **chosen)
    with setup_default_app(test_app, use_trap=use_trap):
        yield test_app


@pytest.fixture(scope="session")
def use_celery_app_trap() -> bool:
    """Override to True: code that uses the current app instead of one it was given fails."""
    return False


@pytest.fixture(scope="session")
def celery_session_app(
    celery_config: Mapping[str, Any],
    celery_parameters: Mapping[str, Any],
    celery_enable_logging: bool,
    use_celery_app_trap: bool,
) -> Iterator[Celery]:
    """One application for the whole session."""
    with _create_app(celery_enable_logging, use_celery_app_trap, celery_parameters, **celery_config) as app:
        if not use_celery_app_trap:
            app.set_default()
            app.set_current()
        yield app


@pytest.fixture(scope="session")
def celery_session_worker(
    celery_session_app: Celery,
    celery_includes: Sequence[str],
    celery_class_tasks: Sequence[type],
    celery_worker_pool: Any,
    celery_worker_parameters: Mapping[str, Any],
) -> Iterator[TestWorker]:
    """One worker for the whole session."""
    with _worker(
        celery_session_app, celery_includes, celery_class_tasks, celery_worker_pool, celery_worker_parameters
    ) as it:
        yield it


@contextmanager
def _worker(
    app: Celery, includes: Sequence[str], classes: Sequence[type], pool: Any, parameters: Mapping[str, Any]
) -> Iterator[TestWorker]:
    for module in (*includes, "pyqs_celery.contrib.testing.tasks"):
        app.loader.import_task_module(module)
    for cls in classes:
        app.register_task(cls)
    with start_worker(app, pool=pool, **parameters) as worker:
        yield worker


@pytest.fixture(scope="session")
def celery_enable_logging() -> bool:
    """Override to True to have the application's logging."""
    return False


@pytest.fixture(scope="session")
def celery_includes() -> Sequence[str]:
    """Override to name modules to import when a worker starts."""
    return ()


@pytest.fixture(scope="session")
def celery_worker_pool() -> str:
    """Override to choose the pool: solo or threads."""
    return "solo"


@pytest.fixture(scope="session")
def celery_config() -> Mapping[str, Any]:
    """Override to set settings."""
    return {}


@pytest.fixture(scope="session")
def celery_parameters() -> Mapping[str, Any]:
    """Override to pass arguments to the application's constructor."""
    return {}


@pytest.fixture(scope="session")
def celery_worker_parameters() -> Mapping[str, Any]:
    """Override to pass arguments to ``start_worker``."""
    return {}


@pytest.fixture(scope="session")
def celery_class_tasks() -> Sequence[type]:
    """Override to register task classes."""
    return []


@pytest.fixture
def celery_app(
    request: Any,
    celery_config: Mapping[str, Any],
    celery_parameters: Mapping[str, Any],
    celery_enable_logging: bool,
    use_celery_app_trap: bool,
) -> Iterator[Celery]:
    """An application for one test; ``@pytest.mark.celery(setting=value)`` changes it."""
    mark = request.node.get_closest_marker("celery")
    config = {**celery_config, **(mark.kwargs if mark else {})}
    with _create_app(celery_enable_logging, use_celery_app_trap, celery_parameters, **config) as app:
        yield app


@pytest.fixture
def celery_worker(
    celery_app: Celery,
    celery_includes: Sequence[str],
    celery_worker_pool: Any,
    celery_worker_parameters: Mapping[str, Any],
) -> Iterator[TestWorker]:
    """A worker for one test."""
    with _worker(celery_app, celery_includes, (), celery_worker_pool, celery_worker_parameters) as worker:
        yield worker


@pytest.fixture
def depends_on_current_app(celery_app: Celery) -> None:
    """For tests whose code uses the current application."""
    celery_app.set_current()
