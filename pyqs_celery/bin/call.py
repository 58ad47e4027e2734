"""``pyqs-celery call``: send one task by name."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import click

from pyqs_celery.bin.context import GlobalOptions, load_app
from pyqs_celery.bin.errors import UsageError
from pyqs_celery.utils.times import parse_iso


class JsonParameter(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A parameter whose text is JSON of one kind."""

    def __init__(self, kind: type, name: str) -> None:
        self.kind = kind
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value; fails with what is wrong."""
        if not isinstance(value, str):
            return value
        try:
            found = json.loads(value)
        except ValueError as exc:
            self.fail(f"{value!r} is not JSON: {exc}", param, ctx)
        if not isinstance(found, self.kind):
            self.fail(f"{value!r} is not {self.name}", param, ctx)
        return found


def moment(text: str | None, option: str) -> datetime | float | None:
    """An ISO 8601 time, or seconds from now. Raises UsageError."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return parse_iso(text)
    except ValueError as exc:
        raise UsageError(f"{option} {text}: write an ISO 8601 time, or a number of seconds") from exc


@click.command()
@click.argument("name")
@click.option(
    "-a", "--args", "args", type=JsonParameter(list, "a JSON list"), default="[]", help="Arguments, a JSON list."
)
@click.option("-k", "--kwargs", "kwargs", type=JsonParameter(dict, "a JSON object"), default="{}", help="JSON object.")
@click.option("--eta", help="When to run: ISO 8601.")
@click.option("--countdown", type=float, help="Seconds until it runs.")
@click.option("--expires", help="Until when it may run: seconds, or ISO 8601.")
@click.option("--serializer", default=None, help="Default: task_serializer.")
@click.option("--queue", help="The queue to send it to.")
@click.option("--exchange", help="As in Celery; found in task_queues.")
@click.option("--routing-key", help="As in Celery; found in task_queues.")
@click.option("--group-id", "MessageGroupId", help="SQS's MessageGroupId.")
@click.pass_obj
def call(options: GlobalOptions, /, name: str, args: Any, kwargs: Any, **given: Any) -> int:
    """Send the task NAME and print its id; the task need not be known here."""
    app = load_app(options)
    eta = moment(given.pop("eta"), "--eta")
    if isinstance(eta, float):
        raise UsageError("--eta is a time; seconds go to --countdown")
    expires = moment(given.pop("expires"), "--expires")
    chosen = {key: value for key, value in given.items() if value is not None}
    click.echo(app.send_task(name, args=args, kwargs=kwargs, eta=eta, expires=expires, **chosen).id)
    return 0
