"""``pyqs-celery result``: what a result store knows of one task."""

from __future__ import annotations

from typing import Any

import click

from pyqs_celery import states
from pyqs_celery.bin.context import GlobalOptions, load_app
from pyqs_celery.bin.errors import UsageError
from pyqs_celery.bin.exit_codes import EX_FAILURE, EX_OK
from pyqs_celery.exceptions import ImproperlyConfigured
from pyqs_celery.exceptions import TimeoutError as ResultTimeout

NOT_THERE = {
    states.PENDING: "it waits or runs, its result has expired, or there is no such task",
    states.RETRY: "it failed and will be tried again",
    states.STARTED: "it runs",
}


@click.command()
@click.argument("task_id")
@click.option("-t", "--task", "name", help="The task's name, if its results are kept in a store of its own.")
@click.option("--traceback", "wants_traceback", is_flag=True, help="Print the traceback of a failure instead.")
@click.option(
    "--timeout", type=float, default=0.0, show_default=True, help="Seconds to wait for a result that is not there yet."
)
@click.pass_obj
def result(options: GlobalOptions, /, task_id: str, name: str | None, wants_traceback: bool, timeout: float) -> int:
    """Print the value of the task TASK_ID, or the exception it ended with: then the exit code is 1, as Celery's.

    Celery waits for a result that is not there yet; here --timeout says for how long. Without a result the exit code is 1.
    """
    found = _result_of(load_app(options), task_id, name)
    if not _is_there(found, timeout):
        state = found.state
        reason = NOT_THERE.get(state, "it has not ended")
        click.echo(f"Task {task_id} has no result yet; its state is {state}: {reason}", err=True)
        return EX_FAILURE
    if wants_traceback:
        click.echo(found.traceback or "")
        return EX_OK
    if found.state in states.PROPAGATE_STATES:
        click.echo(f"Task {task_id} ended with {found.state}: {_shown(found.result)}", err=True)
        return EX_FAILURE
    click.echo(str(found.result))
    return EX_OK


def _result_of(app: Any, task_id: str, name: str | None) -> Any:
    """Raises UsageError for a task that is not registered, ImproperlyConfigured without a result store."""
    if name is None:
        made, backend = app.AsyncResult, app.backend
    else:
        app.loader.import_default_modules()
        task = app.tasks.get(name)
        if task is None:
            raise UsageError(f"--task {name}: no such task is registered in this application")
        made, backend = task.AsyncResult, task.backend
    from pyqs_celery.backends.disabled import DisabledBackend

    if isinstance(backend, DisabledBackend):
        raise ImproperlyConfigured(
            "this application keeps no results: set result_backend, or name a store before the command, --result-backend URL"
        )
    return made(task_id)


def _is_there(found: Any, timeout: float) -> bool:
    if timeout > 0 and not found.ready():
        try:
            found.get(timeout=timeout, propagate=False)
        except ResultTimeout:
            return False
    return bool(found.ready())


def _shown(exc: Any) -> str:
    """As Python's own last line of a traceback."""
    text = str(exc)
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__
