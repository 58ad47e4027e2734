"""The command line: a group that knows its commands by name and imports one only when it is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from pyqs_celery.bin.context import GlobalOptions, enter
from pyqs_celery.bin.exit_codes import EX_FAILURE, EX_OK

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery

COMMANDS = {
    "beat": ("pyqs_celery.bin.beat", "beat", "Send periodic tasks."),
    "call": ("pyqs_celery.bin.call", "call", "Send one task by name."),
    "control": ("pyqs_celery.bin.control", "control", "Change running workers of this host."),
    "decode": ("pyqs_celery.bin.decode", "decode", "Print SQS messages decoded, a JSON line each."),
    "demo": ("pyqs_celery.bin.demo", "demo", "Drain queues that Celery filled, on an SQS of its own."),
    "doctor": ("pyqs_celery.bin.doctor", "doctor", "Say what will differ after the swap."),
    "health": ("pyqs_celery.bin.health", "health", "Say whether a worker of this host is healthy."),
    "inspect": ("pyqs_celery.bin.inspect", "inspect", "Look into running workers of this host."),
    "list": ("pyqs_celery.bin.listing", "list_", "List the application's queues."),
    "local": ("pyqs_celery.bin.local", "local", "Run the embedded SQS for development."),
    "migrate": ("pyqs_celery.bin.migrate", "migrate", "Swap the imports of a code base."),
    "multi": ("pyqs_celery.bin.multi", "multi", "Start or stop several workers in the background."),
    "purge": ("pyqs_celery.bin.purge", "purge", "Delete what waits on queues."),
    "report": ("pyqs_celery.bin.listing", "report", "Versions and settings for a question."),
    "result": ("pyqs_celery.bin.result", "result", "Print what a task has returned."),
    "shell": ("pyqs_celery.bin.listing", "shell", "Start a Python shell with the application."),
    "status": ("pyqs_celery.bin.inspect", "status", "List this host's workers that answer."),
    "worker": ("pyqs_celery.bin.worker", "worker", "Start a worker."),
}
OF_CELERY = {
    "amqp": "SQS is not spoken to by AMQP; use AWS's command line",
    "events": "SQS has no events; read the worker's log",
    "flower": "SQS has no events for it; see pyqs-celery health, inspect and status",
    "graph": "boot steps make no graph here",
    "logtool": "the log's lines are Celery's; use its own logtool on them",
    "upgrade": "settings may keep their old names",
}
"""Commands of Celery's that are not here, and why."""


class LazyGroup(click.Group):
    """A click group over COMMANDS. Help lists them without importing any."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; None if there is no such."""
        if cmd_name in OF_CELERY:
            ctx.fail(f"{cmd_name} is Celery's, and not here: {OF_CELERY[cmd_name]}")
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands with their one-line helps."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][2]) for name in self.list_commands(ctx)])


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        from pyqs_celery import __version__

        click.echo(f"pyqs-celery {__version__}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-A", "--app", envvar="APP", help="The application: module, module:name or module.name.")
@click.option("-b", "--broker", envvar="BROKER_URL", help="Where the queues are: sqs://...")
@click.option("--result-backend", envvar="RESULT_BACKEND", help="Where results are kept.")
@click.option("--loader", envvar="LOADER", help="Accepted for Celery's sake.")
@click.option("--config", envvar="CONFIG_MODULE", help="Module with settings.")
@click.option("--workdir", help="Directory to change to first.")
@click.option("-C", "--no-color", is_flag=True, default=lambda: bool(os.environ.get("NO_COLOR")), help="No colours.")
@click.option("-q", "--quiet", is_flag=True, help="No banner.")
@click.option("--skip-checks", is_flag=True, envvar="SKIP_CHECKS", help="Skip Django's checks.")
@click.option(
    "--traceback", is_flag=True, allow_from_autoenv=False, help="Show the traceback of an error that ends the command."
)
# Images often have a variable CELERY_VERSION of their own.
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    allow_from_autoenv=False,
    callback=_version,
    help="Show the version.",
)
@click.pass_context
def cli(ctx: click.Context, /, **options: Any) -> None:
    """Run the tasks that Celery put on Amazon SQS."""
    ctx.obj = GlobalOptions(**options, application=ctx.obj)
    enter(ctx.obj)


def run(argv: Sequence[str] | None = None, app: Celery | None = None) -> int:
    """Run the command line and return its exit code. ``argv`` is without the program's name."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # --traceback is read here as well: an error may come before click has parsed anything.
    show_traceback = "--traceback" in arguments
    try:
        code = cli.main(arguments, "pyqs-celery", standalone_mode=False, obj=app, auto_envvar_prefix="CELERY")
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Aborted.", err=True)
        return EX_FAILURE
    except Exception as exc:  # noqa: BLE001 - whatever ends a command is told in a sentence, with its exit code
        from pyqs_celery.bin.errors import report

        return report(exc, show_traceback=show_traceback)
    return code if isinstance(code, int) else EX_OK


def main(argv: Sequence[str] | None = None, app: Celery | None = None) -> int:
    """The console script. Exits with the command's code; returns it if an application called (``app.worker_main``)."""
    code = run(argv, app)
    if app is None:
        sys.exit(code)
    return code
