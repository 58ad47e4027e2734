"""``pyqs-celery doctor``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyqs_celery.bin.context import GlobalOptions, load_app
from pyqs_celery.bin.errors import UsageError
from pyqs_celery.bin.options import ALL_FLAGS
from pyqs_celery.bin.output import styled, to_json
from pyqs_celery.exceptions import BrokerError, ImproperlyConfigured

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery
    from pyqs_celery.doctor import Finding

COLOURS = {"error": "red", "warning": "yellow", "info": "cyan"}


@click.command()
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
@click.pass_obj
def doctor(options: GlobalOptions, /, paths: tuple[Path, ...], form: str, fail_on: Any, offline: bool) -> int:
    """Say what will differ after the swap from Celery: in code, settings, tasks, queues and the files that start workers.

    Looks at the application (-A) and below --path (default: the current folder). Exit code 1 if there is a finding as bad as
    --fail-on, 0 if not, 2 if the application cannot be loaded.
    """
    from pyqs_celery.doctor import Context, examine

    app = _loaded(options) if options.app or options.application else None
    if app is None and not paths:
        raise UsageError("name an application with -A, or folders with --path")
    queues, unreachable = (None, "--offline") if offline or app is None else _queues(app)
    context = Context(
        paths=paths or (Path.cwd(),),
        app=app,
        flags=frozenset(name for flag in ALL_FLAGS for name in flag.names if name.startswith("-")),
        queues=queues,
        unreachable=unreachable,
    )
    findings = examine(context)
    if form == "json":
        click.echo(to_json([asdict(finding) for finding in findings]))
    else:
        click.echo(_text(findings, colour=options.colour))
    return int(any(finding.at_least(fail_on) for finding in findings))


def _loaded(options: GlobalOptions) -> Celery:
    app = load_app(options)
    try:
        app.loader.import_default_modules()
        app.finalize()
    except ImportError as exc:
        raise UsageError(f"a module with tasks cannot be imported: {exc}") from exc
    return app


def _queues(app: Celery) -> tuple[Any, str]:
    """What SQS says of the application's queues, or None and why it said nothing."""
    from pyqs_celery.broker.client import SqsClient, Timeouts
    from pyqs_celery.broker.queues import QueueDirectory

    try:
        config = app.consumer_broker_config()
        return QueueDirectory(SqsClient(config, timeouts=Timeouts(2.0, 5.0)), config).find(app.consume_queues()), ""
    except (BrokerError, ImproperlyConfigured) as exc:
        return None, str(exc)


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
