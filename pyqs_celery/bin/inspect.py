"""``pyqs-celery inspect``, ``control`` and ``status``: what an application knows by itself, and a plain no for the rest."""

from __future__ import annotations

import click

from pyqs_celery.app.control import WHAT_TO_DO
from pyqs_celery.bin.context import GlobalOptions, load_app
from pyqs_celery.bin.errors import NobodyReplied
from pyqs_celery.bin.output import to_json

LOCAL = ("conf", "registered", "report")


def _nobody(what: str) -> NobodyReplied:
    instead = WHAT_TO_DO.get(
        what.rpartition(" ")[2], "ask the application (inspect registered, conf, report) or AWS's console"
    )
    return NobodyReplied(f"{what}: no nodes replied, since SQS has no broadcast to ask workers with: {instead}")


@click.command()
@click.argument("action")
@click.argument("arguments", nargs=-1)
@click.option("-t", "--timeout", type=float, help="Accepted for Celery's sake.")
@click.option("-d", "--destination", help="Accepted for Celery's sake.")
@click.option("-j", "--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def inspect(
    options: GlobalOptions,
    /,
    action: str,
    arguments: tuple[str, ...],  # noqa: ARG001 - Celery's
    timeout: float | None,  # noqa: ARG001 - Celery's
    destination: str | None,  # noqa: ARG001 - Celery's
    as_json: bool,
) -> int:
    """Show what the application's tasks (registered) or settings (conf) are, or a report for a question about it.

    What only running workers know cannot be asked over SQS: exit code 69, as Celery's.
    """
    if action not in LOCAL:
        raise _nobody(f"inspect {action}")
    app = load_app(options)
    app.loader.import_default_modules()
    app.finalize()
    if action == "registered":
        names = sorted(name for name in app.tasks if not name.startswith("celery."))
        click.echo(to_json(names) if as_json else "\n".join(names))
    elif action == "conf":
        click.echo(to_json(app.conf.table()) if as_json else app.conf.humanize(with_defaults=True))
    else:
        click.echo(app.bugreport())
    return 0


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("action")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def control(action: str, arguments: tuple[str, ...]) -> int:  # noqa: ARG001 - Celery's
    """Refused: SQS has no broadcast. Says what to do instead; exit code 69, as Celery's when nobody replies."""
    raise _nobody(f"control {action}")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def status(arguments: tuple[str, ...]) -> int:  # noqa: ARG001 - Celery's
    """Refused as control is; exit code 69."""
    raise _nobody("status")
