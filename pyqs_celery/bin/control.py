"""``pyqs-celery control``: running workers of this host do something else from now on."""

from __future__ import annotations

import json
from typing import Any

import click

from pyqs_celery import nodes
from pyqs_celery.app.control import CONTROLS, NOWHERE, WHAT_TO_DO
from pyqs_celery.bin.context import GlobalOptions, load_app
from pyqs_celery.bin.errors import UsageError
from pyqs_celery.bin.exit_codes import EX_FAILURE, EX_OK
from pyqs_celery.bin.inspect import asks_workers, destinations, nobody, not_recognized, say

OPTIONAL = {"pool_grow": 0, "pool_shrink": 0, "time_limit": 2}
"""How many arguments must be given where not all must."""
NUMBERS = {"n": int, "soft": float, "hard": float}
MARKS = {"revoke": 0, "terminate": 1}
"""Commands that leave marks in the result store, and how many arguments stand before the ids."""


@click.command()
@click.argument("command", required=False)
@click.argument("arguments", nargs=-1)
@asks_workers
@click.option("--list", "as_list", is_flag=True, help="Print what workers do when asked.")
@click.pass_obj
def control(
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
    """Tell running workers of this user on this host to do something.

    revoke and terminate reach all workers by the result store. Exit code 69, as Celery's, if nobody answers; 1 if a
    worker refuses.
    """
    if as_list:
        for name, takes in {**CONTROLS, "revoke": ("id ...",), "terminate": ("signal", "id ...")}.items():
            click.echo(" ".join(("  " + name, *(f"<{each}>" for each in takes))))
        return EX_OK
    if command in MARKS:
        return _mark(options, command, arguments)
    if command in NOWHERE:
        raise UsageError(f"control {command} is not possible on SQS, which has no broadcast: {WHAT_TO_DO[command]}")
    if command not in CONTROLS:
        raise not_recognized("control", command, (*CONTROLS, *MARKS))
    names = destinations(destination)
    asked = nodes.ask(command, _named(command, arguments), destination=names, timeout=timeout, folder=control_dir)
    if not asked.replies:
        raise nobody(f"control {command}", names)
    if as_json:
        click.echo(json.dumps([{node: reply} for node, reply in asked.replies.items()]))
    else:
        say(options, asked)
    answers = [*asked.replies.values(), *(reply for _, reply in asked.twins)]
    refused = any(isinstance(reply, dict) and "error" in reply for reply in answers)
    return EX_FAILURE if refused else EX_OK


def _named(command: str, given: tuple[str, ...]) -> dict[str, Any]:
    """The arguments under their names. Raises UsageError for too many, too few, or no numbers."""
    takes = CONTROLS[command]
    least = OPTIONAL.get(command, len(takes))
    most = len(takes) if command != "add_consumer" else 4  # AMQP's words for a queue's exchange change nothing
    if not least <= len(given) <= most:
        raise UsageError(f"control {command} takes: {' '.join(takes) or 'no arguments'}")
    found: dict[str, Any] = {}
    for name, text in zip(takes, given, strict=False):
        try:
            found[name] = NUMBERS[name](text) if name in NUMBERS else text
        except ValueError:
            raise UsageError(f"control {command}: {name} must be a number, not {text!r}") from None
    return found


def _mark(options: GlobalOptions, command: str, given: tuple[str, ...]) -> int:
    before = MARKS[command]
    ids = list(given[before:])
    if not ids:
        raise UsageError(f"control {command} takes: {'signal ' * before}id ...")
    app = load_app(options)
    call = {"signal": given[0]} if before else {}
    answers = getattr(app.control, command)(ids, reply=True, **call)
    for answer in answers or ():
        click.echo(next(iter(answer.values()))["ok"])
    return EX_OK
