"""``pyqs-celery inspect`` and ``status``: questions to running workers of this host, printed as Celery prints the answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pprint import pformat
from textwrap import indent
from typing import Any

import click

from pyqs_celery import nodes
from pyqs_celery.app.control import INSPECTS, WHAT_TO_DO
from pyqs_celery.bin.context import GlobalOptions, load_app
from pyqs_celery.bin.errors import NobodyReplied, UsageError
from pyqs_celery.bin.health import node_of
from pyqs_celery.bin.options import Command
from pyqs_celery.bin.output import styled, to_json

OF_THE_APPLICATION = ("conf", "registered", "report")
"""What an application answers by itself where no worker runs."""


ASKING: tuple[Callable[[Any], Any], ...] = (
    click.option("-t", "--timeout", type=float, default=1.0, show_default=True, help="Seconds to wait for answers."),
    click.option(
        "-d", "--destination", help="Node names, separated by commas. Default: all of this user's on this host."
    ),
    click.option("-j", "--json", "as_json", is_flag=True, help="Print JSON."),
    click.option("--control-dir", help="The folder of the workers' sockets."),
)


def asks_workers(command: Command) -> Command:
    """Give a command the options of all that ask running workers: timeout, destination, as_json and control_dir."""
    for option in reversed(ASKING):
        command = option(command)
    return command


def destinations(given: str | None) -> list[str] | None:
    """The node names of a comma list, None for all. Raises click's UsageError."""
    return [node_of(name.strip()) for name in given.split(",") if name.strip()] if given else None


def not_recognized(kind: str, command: str | None, known: Iterable[str]) -> UsageError:
    """The error for a command that there is not, in Celery's words, or for none."""
    there_are = f"Available {kind} commands: {', '.join(sorted(known))}"
    return UsageError(
        f"Command {command} not recognized. {there_are}" if command else f"{kind} takes a command. {there_are}"
    )


def nobody(what: str, names: list[str] | None) -> NobodyReplied:
    """The error for no answer: Celery's sentence, and what to do."""
    instead = WHAT_TO_DO.get(what.rpartition(" ")[2], "ask on the worker's own host, as its user")
    meant = f" from {', '.join(names)}" if names else ""
    return NobodyReplied(
        f"No nodes replied within time constraint{meant}. Only workers of this user on this host can be asked, since SQS has no "
        f"broadcast. {what}: {instead}"
    )


def say(options: GlobalOptions, asked: nodes.Asked, *, with_body: bool = True) -> None:
    """Print answers as Celery does, and how many nodes there are."""
    replies = [*asked.replies.items(), *asked.twins]
    for node, reply in replies:
        failed = isinstance(reply, dict) and "ok" not in reply and "error" in reply
        word = styled("ERROR" if failed else "OK", colour="red" if failed else "green", enabled=options.colour)
        arrow = "" if options.quiet else styled("->", colour="white", enabled=options.colour) + " "
        click.echo(f"{arrow} {styled(f'{node}: ', colour='cyan', enabled=options.colour)}{word}")
        if with_body:
            click.echo(indent(_shown(reply), "    "))
    if not options.quiet:
        click.echo(f"\n{len(replies)} {'node' if len(replies) == 1 else 'nodes'} online.")


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(f"* {item}" for item in value) if value else "- empty -"
    if isinstance(value, dict) and ("ok" in value or "error" in value):
        return indent(_shown(value.get("ok", value.get("error"))), "    ")
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True, indent=4)
    return value if isinstance(value, str) else pformat(value)


def _list(kind: str, commands: Mapping[str, str]) -> None:
    formatter = click.HelpFormatter()
    with formatter.section(f"{kind} Commands"):
        formatter.write_dl(sorted(commands.items()))
    click.echo(formatter.getvalue(), nl=False)


@click.command(context_settings={"ignore_unknown_options": False})
@click.argument("command", required=False)
@click.argument("arguments", nargs=-1)
@asks_workers
@click.option("--list", "as_list", is_flag=True, help="Print what can be asked.")
@click.pass_obj
def inspect(
    options: GlobalOptions,
    /,
    command: str | None,
    arguments: tuple[str, ...],
    timeout: float,
    destination: str | None,
    as_json: bool,
    as_list: bool,
    control_dir: str | None,
) -> int:
    """Ask running workers of this user on this host.

    Exit code 69, as Celery's, if nobody answers. conf, registered and report are answered by the application where no
    worker runs.
    """
    if as_list:
        _list("Inspect", INSPECTS)
        return 0
    if command not in INSPECTS:
        raise not_recognized("inspect", command, INSPECTS)
    names = destinations(destination)
    asked = nodes.ask(command, _arguments(command, arguments), destination=names, timeout=timeout, folder=control_dir)
    if asked.replies and as_json:
        click.echo(json.dumps(asked.replies))
    elif asked.replies:
        say(options, asked)
    elif command in OF_THE_APPLICATION and names is None:
        _of_the_application(options, command, as_json=as_json)
    else:
        raise nobody(f"inspect {command}", names)
    return 0


def _arguments(command: str, given: tuple[str, ...]) -> dict[str, Any]:
    if command == "query_task":
        return {"ids": list(given)}
    if command == "registered":
        return {"taskinfoitems": list(given)}
    if command == "conf" and given:
        return {"with_defaults": given[0].lower() in ("1", "true", "yes", "on")}
    if given:
        raise UsageError(f"inspect {command} takes no arguments")
    return {}


def _of_the_application(options: GlobalOptions, command: str, *, as_json: bool) -> None:
    app = load_app(options)
    app.loader.import_default_modules()
    app.finalize()
    if command == "registered":
        names = sorted(name for name in app.tasks if not name.startswith("celery."))
        click.echo(to_json(names) if as_json else "\n".join(names))
    elif command == "conf":
        click.echo(to_json(app.conf.table()) if as_json else app.conf.humanize(with_defaults=True))
    else:
        click.echo(app.bugreport())


@click.command()
@asks_workers
@click.pass_obj
def status(
    options: GlobalOptions, /, timeout: float, destination: str | None, as_json: bool, control_dir: str | None
) -> int:
    """List this host's workers that answer; exit code 69, as Celery's, if there is none."""
    names = destinations(destination)
    asked = nodes.ask("ping", {}, destination=names, timeout=timeout, folder=control_dir)
    if not asked.replies:
        raise nobody("status", names)
    if as_json:
        click.echo(json.dumps(asked.replies))
    else:
        say(options, asked, with_body=False)
    return 0
