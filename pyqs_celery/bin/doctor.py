"""``pyqs-celery doctor``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyqs_celery.bin.context import GlobalOptions, load_app
from pyqs_celery.bin.errors import UsageError
from pyqs_celery.bin.options import ALL_FLAGS, Flag
from pyqs_celery.bin.output import styled, to_json
from pyqs_celery.exceptions import AccessDenied, BrokerError, ImproperlyConfigured, InvalidRequest

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery
    from pyqs_celery.broker.client import SqsClient
    from pyqs_celery.broker.delivery import QueueInfo
    from pyqs_celery.doctor import Context, Finding

COLOURS = {"error": "red", "warning": "yellow", "info": "cyan"}


class DoctorCommand(click.Command):
    """Takes ``--iam`` alone for the worker's: an option given several times has no optional value in click 8.0."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, with the worker behind an ``--iam`` that has nothing behind it."""
        words: list[str] = []
        for word, following in zip_longest(args, args[1:], fillvalue="-"):
            words.append(word)
            if word == "--iam" and following.startswith("-"):
                words.append("worker")
        return super().parse_args(ctx, words)


@click.command(cls=DoctorCommand)
@click.option("-A", "--app", "name", help="The application; may stand before the command as well.")
@click.option(
    "--path", "paths", multiple=True, type=click.Path(exists=True, path_type=Path), help="Folders or files to look at."
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="Default: text.")
@click.option(
    "--fail-on",
    type=click.Choice(["error", "warning", "info"]),
    default="error",
    help="Exit with 1 for these and worse.",
)
@click.option("--offline", is_flag=True, help="Do not look at the queues.")
@click.option(
    "--iam",
    "roles",
    multiple=True,
    type=click.Choice(["producer", "worker", "beat", "purge", "assume-role"]),
    help="Print the IAM policy of this part of the application (the worker, if none is named), and nothing else. May be "
    "given several times.",
)
@click.option(
    "-Q",
    "--queues",
    help="With --iam: these queues and patterns, as the worker takes them, not all of the application's.",
)
@click.option("--create-queues", is_flag=True, help="With --iam: allow to create queues that are missing.")
@click.pass_obj
def doctor(
    options: GlobalOptions,
    /,
    name: str | None,
    paths: tuple[Path, ...],
    form: str,
    fail_on: Any,
    offline: bool,
    roles: tuple[str, ...],
    queues: str | None,
    create_queues: bool,
) -> int:
    """Say what will differ after the swap from Celery: in code, settings, tasks, queues and the files that start workers.

    Looks at the application (-A) and below --path (default: the current folder). Exit code 1 if there is a finding as bad as
    --fail-on, 0 if not, 2 if the application cannot be loaded.
    """
    from pyqs_celery.bin import OF_CELERY
    from pyqs_celery.doctor import Context, examine

    options = replace(options, app=name) if name else options
    app = _loaded(options) if options.app or options.application else None
    if roles:
        click.echo(_iam(app, roles, queues, create=create_queues))
        return 0
    if app is None and not paths:
        raise UsageError("name an application with -A, or folders with --path")
    context = Context(
        paths=paths or (Path(),),
        app=app,
        flags=frozenset(_names(ALL_FLAGS)),
        switches=frozenset(_names(flag for flag in ALL_FLAGS if flag.switch)),
        idle_flags={name: flag.no_effect for flag in ALL_FLAGS if flag.no_effect for name in _names([flag])},
        gone={**OF_CELERY, "migrate": "brokers other than SQS are not spoken to; here it swaps imports"},
        unreachable="--offline",
    )
    if app is not None and not offline:
        _look_at_queues(app, context)
    findings = examine(context)
    if form == "json":
        click.echo(to_json([asdict(finding) for finding in findings]))
    else:
        click.echo(_text(findings, colour=options.colour))
    return int(any(finding.at_least(fail_on) for finding in findings))


def _iam(app: Celery | None, roles: tuple[str, ...], queues: str | None, *, create: bool) -> str:
    """A policy as JSON. Raises UsageError."""
    from pyqs_celery.bin.worker_config import queue_names
    from pyqs_celery.doctor import Context, queues_of
    from pyqs_celery.doctor.iam import policy

    if app is None:
        raise UsageError("name an application with -A: the policy is made from its settings")
    names = queue_names([queues])[0] if queues else queues_of(Context(app=app))
    try:
        return json.dumps(policy(app, roles, names, create=create), indent=2)
    except (InvalidRequest, ImproperlyConfigured) as exc:
        raise UsageError(str(exc)) from exc


def _names(flags: Iterable[Flag]) -> Iterator[str]:
    return (name for flag in flags for name in flag.names if name.startswith("-"))


def _loaded(options: GlobalOptions) -> Celery:
    """The application with its tasks. Raises UsageError if it, its settings or a module of tasks cannot be loaded."""
    try:
        app = load_app(options)
        app.loader.import_default_modules()
        app.finalize()
        app.conf.table()
    except UsageError:
        raise
    except ImproperlyConfigured as exc:
        raise UsageError(str(exc)) from exc
    except Exception as exc:
        raise UsageError(f"a module with tasks cannot be imported: {type(exc).__name__}: {exc}") from exc
    return app


def _look_at_queues(app: Celery, context: Context) -> None:
    """Put what SQS says of the application's queues into the context, or why it said nothing."""
    from pyqs_celery.broker.client import SqsClient
    from pyqs_celery.broker.connections import Timeouts
    from pyqs_celery.broker.queues import QueueDirectory
    from pyqs_celery.doctor import queues_of

    try:
        config = app.consumer_broker_config()
        client = SqsClient(config, timeouts=Timeouts(2.0, 5.0))
        found = QueueDirectory(client, config).find(queues_of(context))
        context.retention = {queue.name: _retention(client, queue) for queue in found.queues}
        context.queues = found
    except (BrokerError, ImproperlyConfigured) as exc:
        context.unreachable = str(exc)


def _retention(client: SqsClient, queue: QueueInfo) -> int:
    """Seconds for which a queue keeps a message, 0 if it may not be asked."""
    try:
        return int(client.queue_attributes(queue.url, queue.name).get("MessageRetentionPeriod", 0))
    except AccessDenied:
        return 0


def _text(findings: list[Finding], *, colour: bool) -> str:
    blocks = [
        f"{styled(each.severity, colour=COLOURS[each.severity], enabled=colour)} {each.place} [{each.code}]\n"
        f"  {each.sentence}\n  fix: {each.fix}"
        for each in findings
    ]
    counts = {severity: sum(each.severity == severity for each in findings) for severity in COLOURS}
    total = ", ".join(
        f"{count} {severity}{'s' if count != 1 and severity != 'info' else ''}" for severity, count in counts.items()
    )
    return "\n".join([*blocks, f"{total}." if findings else "Nothing will differ that could be seen."])
