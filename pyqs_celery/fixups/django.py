"""What an application inside Django gets: set-up, checks, ``delay_on_commit``, and connections that are looked after.

Installed when ``DJANGO_SETTINGS_MODULE`` is set. https://docs.celeryq.dev/en/stable/django/first-steps-with-django.html
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyqs_celery import signals
from pyqs_celery.exceptions import FixupWarning, ImproperlyConfigured

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery

OUR_TASK = "pyqs_celery.app.task:Task"
DJANGO_TASK = "pyqs_celery.contrib.django.task:DjangoTask"


def fixup(app: Celery, env: str = "DJANGO_SETTINGS_MODULE") -> DjangoFixup | None:
    """The fix-up of ``app``, None outside of Django. Warns if the variable is set and Django is not installed."""
    if not os.environ.get(env):
        return None
    try:
        import django
    except ImportError:
        warnings.warn(f"{env} is set, but Django is not installed", FixupWarning, stacklevel=2)
        return None
    if django.VERSION < (2, 2):
        raise ImproperlyConfigured(f"Django 2.2 or later is needed, not {django.__version__}")
    return DjangoFixup(app).install()


class DjangoFixup:
    """Ties an application to the Django project it is part of."""

    def __init__(self, app: Celery) -> None:
        self.app = app
        self.worker: DjangoWorkerFixup | None = None

    def install(self) -> DjangoFixup:
        """Connect to what must be known of; nothing of Django is set up yet."""
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.insert(0, here)
        if self.app.task_cls == OUR_TASK:
            self.app.task_cls = DJANGO_TASK
        signals.import_modules.connect(self.on_import_modules, sender=self.app)
        signals.worker_init.connect(self.on_worker_init)
        signals.beat_init.connect(self.on_beat_init)
        return self

    def on_import_modules(self, **kwargs: Any) -> None:
        """Before tasks are imported: Django must be set up."""
        import django

        django.setup()

    def on_worker_init(self, sender: Any = None, **kwargs: Any) -> None:
        """Before the worker forks: check the project, and leave no connection open that a fork would share."""
        if sender is not None and getattr(sender, "app", self.app) is not self.app:
            return
        if not os.environ.get("CELERY_SKIP_CHECKS"):
            self.validate_models()
        self.worker = DjangoWorkerFixup(self.app).install()

    def on_beat_init(self, sender: Any = None, **kwargs: Any) -> None:
        """Beat imports models too when its scheduler keeps entries in the database."""
        import django

        django.setup()

    def validate_models(self) -> None:
        """Run Django's checks as its own commands do. Raises SystemCheckError."""
        import django
        from django.core.checks import run_checks
        from django.core.management.base import SystemCheckError

        django.setup()
        serious = [message for message in run_checks() if message.is_serious(40) and not message.is_silenced()]
        if serious:
            raise SystemCheckError("Django's checks found:\n" + "\n".join(str(message) for message in serious))


class DjangoWorkerFixup:
    """Looks after database and cache connections in a worker.

    ``CELERY_DB_REUSE_MAX`` in Django's settings lets a task keep the connection of the one before, so many times.
    """

    def __init__(self, app: Celery) -> None:
        from django.conf import settings

        self.app = app
        self.reuse_max = getattr(settings, "CELERY_DB_REUSE_MAX", None)
        self._used = 0

    def install(self) -> DjangoWorkerFixup:
        """Close what is open, and connect to the moments at which connections are to be closed."""
        self._close_all()
        signals.worker_process_init.connect(self.on_worker_process_init)
        signals.task_prerun.connect(self.on_task_prerun)
        signals.task_postrun.connect(self.on_task_postrun)
        return self

    def on_worker_process_init(self, **kwargs: Any) -> None:
        """In a fresh child: drop connections that something opened between the check and the fork.

        Only this process's end is closed; the session at the server belongs to the other process.
        """
        from django.db import connections

        for connection in connections.all(initialized_only=True):
            _forget(connection)
        self._close_caches()

    def on_task_prerun(self, sender: Any = None, **kwargs: Any) -> None:
        """Before a task: a connection that is broken or too old is not used."""
        if not _is_eager(sender):
            self.close_database()

    def on_task_postrun(self, sender: Any = None, **kwargs: Any) -> None:
        """After a task: the same, and caches are told that a request has ended."""
        if not _is_eager(sender):
            self.close_database()
            self._close_caches()

    def close_database(self) -> None:
        """Close connections that are unusable or have lived their CONN_MAX_AGE."""
        from django.db import close_old_connections

        if self.reuse_max and self._used < int(self.reuse_max) * 2:
            self._used += 1
            return
        self._used = 0
        close_old_connections()

    @staticmethod
    def _close_all() -> None:
        from django.db import connections

        connections.close_all()

    @staticmethod
    def _close_caches() -> None:
        from django.core.cache import close_caches

        close_caches()


def _is_eager(task: Any) -> bool:
    return bool(getattr(getattr(task, "request", None), "is_eager", False))


def _forget(connection: Any) -> None:
    """Let go of an inherited connection without a word to its server, which would end the other process's session."""
    inner = connection.connection
    fileno = getattr(inner, "fileno", None)
    if inner is not None and fileno is not None:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, fileno())
        os.close(null)
    connection.connection = None
    connection.close_at = None
