"""What stands before the sub-command (``-A`` and its companions), and finding the application by it.

Nothing heavy is imported until a command needs the application: a probe does not.
"""

from __future__ import annotations

import os
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    """The global options as given. ``application`` is an app that called the command line itself."""

    app: str | None = None
    broker: str | None = None
    result_backend: str | None = None
    loader: str | None = None
    config: str | None = None
    workdir: str | None = None
    no_color: bool = False
    quiet: bool = False
    skip_checks: bool = False
    traceback: bool = False
    application: Celery | None = None

    @property
    def colour(self) -> bool:
        """Whether to colour what goes to a terminal."""
        return not self.no_color and sys.stdout.isatty()


def enter(options: GlobalOptions) -> None:
    """Change to the working directory and hand the settings on as Celery does, by its environment variables.

    Raises UsageError if the directory cannot be entered.
    """
    if options.workdir:
        try:
            os.chdir(options.workdir)
        except OSError as exc:
            from pyqs_celery.bin.errors import UsageError

            raise UsageError(f"--workdir {options.workdir}: {exc.strerror or exc}") from exc
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    variables = {
        "CELERY_LOADER": options.loader,
        "CELERY_BROKER_URL": options.broker,
        "CELERY_RESULT_BACKEND": options.result_backend,
        "CELERY_CONFIG_MODULE": options.config,
        "CELERY_SKIP_CHECKS": "true" if options.skip_checks else None,
    }
    os.environ.update({name: value for name, value in variables.items() if value})


def load_app(options: GlobalOptions) -> Celery:
    """The application ``-A`` names, or the default one. Raises UsageError, exit code 2, with what went wrong where."""
    if options.application is not None:
        return options.application
    if not options.app:
        from pyqs_celery._state import get_current_app

        return get_current_app()
    from pyqs_celery.app.loader import AppNotFound, find_app
    from pyqs_celery.bin.errors import UsageError
    from pyqs_celery.exceptions import ImproperlyConfigured

    try:
        app: Celery = find_app(options.app)
    except AppNotFound as exc:
        raise UsageError(f"{exc}{_hint(options.app, exc.__cause__)}") from exc
    except ImproperlyConfigured:
        raise
    except Exception as exc:
        raise UsageError(f"-A {options.app} failed while it was imported: {_where(exc)}") from exc
    return app


def _hint(spec: str, cause: BaseException | None) -> str:
    """What to do about a module that was not found: the application's own, or one that it imports."""
    if not isinstance(cause, ImportError):
        return ""
    own = not cause.name or cause.name.partition(".")[0] == spec.partition(":")[0].partition(".")[0]
    if own:
        return f"; is {Path.cwd()} the folder to start from (--workdir)?"
    return _place(cause) or " (somewhere in it)"


def _where(exc: Exception) -> str:
    """``NameError: ... (proj/celery.py, line 3)``."""
    text = f"{type(exc).__name__}: {' '.join(str(exc).split())}"
    return text if isinstance(exc, SyntaxError) else text + _place(exc)


def _place(exc: BaseException) -> str:
    """`` (proj/celery.py, line 3)``: where it was raised outside Python's import system; empty if nowhere there."""
    frames = [frame for frame in traceback.extract_tb(exc.__traceback__) if not frame.filename.startswith("<")]
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
