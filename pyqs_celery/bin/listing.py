"""``pyqs-celery list``, ``report`` and ``shell``."""

from __future__ import annotations

import code

import click

from pyqs_celery.bin.context import GlobalOptions, load_app
from pyqs_celery.bin.output import table


@click.command(name="list")
@click.argument("what", type=click.Choice(["queues", "bindings"]), default="queues")
@click.pass_obj
def list_(options: GlobalOptions, /, what: str) -> int:  # noqa: ARG001 - on SQS a binding is a queue
    """List the application's queues: their names here and on SQS, and the routing key that leads to each."""
    from pyqs_celery.broker.queues import sqs_queue_name

    app = load_app(options)
    prefix = app.broker_config().queue_name_prefix
    rows = [(name, sqs_queue_name(name, prefix), queue.routing_key) for name, queue in app.amqp.queues.items()]
    click.echo(table(rows, ("Queue", "On SQS", "Routing key")))
    return 0


@click.command()
@click.pass_obj
def report(options: GlobalOptions, /) -> int:
    """Versions and settings, secrets left out, for a question or a bug report."""
    click.echo(load_app(options).bugreport())
    return 0


@click.command()
@click.option("-I", "--ipython", is_flag=True, help="Use IPython.")
@click.option("-P", "--python", "plain", is_flag=True, help="Use Python's own shell.")
@click.option("-T", "--without-tasks", is_flag=True, help="Do not put tasks into the namespace.")
@click.pass_obj
def shell(options: GlobalOptions, /, ipython: bool, plain: bool, without_tasks: bool) -> int:
    """Start a Python shell with app, celery and the application's tasks by their own names."""
    app = load_app(options)
    app.loader.import_default_modules()
    names = {"app": app, "celery": app}
    if not without_tasks:
        names |= {task.__name__: task for task in app.tasks.values() if not task.name.startswith("celery.")}
    if not plain:
        try:
            from IPython import start_ipython
        except ImportError:
            if ipython:
                raise click.UsageError("IPython is not installed") from None
        else:
            start_ipython(argv=[], user_ns=names)
            return 0
    code.interact(local=names)
    return 0
