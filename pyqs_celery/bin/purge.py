"""``pyqs-celery purge``: delete what waits on queues."""

from __future__ import annotations

import click

from pyqs_celery.bin.context import GlobalOptions, load_app
from pyqs_celery.bin.output import table
from pyqs_celery.bin.worker_config import queue_names


@click.command()
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option(
    "-Q", "--queues", multiple=True, help="Names and patterns, separated by commas. Default: the application's."
)
@click.option("-X", "--exclude-queues", "excluded", multiple=True, help="Names and patterns to spare.")
@click.pass_obj
def purge(options: GlobalOptions, /, force: bool, queues: tuple[str, ...], excluded: tuple[str, ...]) -> int:
    """Delete all waiting messages, the delayed and the running ones too. There is no undo."""
    from pyqs_celery.broker.purging import Purging

    app = load_app(options)
    names = queue_names(queues)[0] or app.consume_queues()
    purging = Purging(app.broker_config(), names, queue_names(excluded)[0])
    found = purging.waiting()
    if not found:
        click.echo(f"No queue of the name {', '.join(names)} exists; nothing was purged.")
        return 0
    click.echo(table([(queue.logical, queue.name, count) for queue, count in found], ("Queue", "On SQS", "Messages")))
    if not force:
        click.confirm("Delete all of them? There is no undo", abort=True)
    for queue, _ in found:
        purging.purge(queue)
    total = sum(count for _, count in found)
    click.echo(f"Purged about {total} messages from {len(found)} known task queue{'s' if len(found) != 1 else ''}.")
    return 0
