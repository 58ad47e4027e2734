"""What a person sees when a command fails: one sentence and an exit code; a traceback only when asked for."""

from __future__ import annotations

import traceback

import click
from kombu.exceptions import OperationalError

from pyqs_celery.bin.exit_codes import EX_BOOT, EX_CANTCREAT, EX_FAILURE, EX_UNAVAILABLE, EX_USAGE
from pyqs_celery.exceptions import BootError, CeleryError


class UsageError(CeleryError):
    """The command line itself is wrong; exit code 2, as Celery's."""


class PidfileHeld(CeleryError):
    """Another worker that lives holds the pid file; exit code 73, as Celery's."""


class NobodyReplied(CeleryError):
    """No worker has replied; exit code 69, as Celery's."""


CODES: tuple[tuple[type[BaseException], int], ...] = (
    (UsageError, EX_USAGE),
    (PidfileHeld, EX_CANTCREAT),
    (NobodyReplied, EX_UNAVAILABLE),
    (BootError, EX_BOOT),
)


def exit_code(exc: BaseException) -> int:
    """Celery's exit code for an error that ended a command, 1 where it has none of its own."""
    return next((code for kind, code in CODES if isinstance(exc, kind)), EX_FAILURE)


def sentence(exc: BaseException) -> str:
    """The error in one line. Errors of ours are sentences already; of others the type says most."""
    if isinstance(exc, (CeleryError, OperationalError)):
        return str(exc) or type(exc).__name__
    text = " ".join(str(exc).split())
    described = f"{type(exc).__name__}: {text}" if text else type(exc).__name__
    if isinstance(exc, OSError):
        return described
    return f"{described} (this was not foreseen; --traceback before the command shows where)"


def report(exc: BaseException, *, show_traceback: bool) -> int:
    """Print the error on standard error and return the exit code."""
    if show_traceback:
        click.echo("".join(traceback.format_exception(type(exc), exc, exc.__traceback__)), err=True, nl=False)
    click.echo(f"Error: {sentence(exc)}", err=True)
    return exit_code(exc)
