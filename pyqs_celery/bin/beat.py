"""``pyqs-celery beat``."""

from __future__ import annotations

from pathlib import Path

import click

from pyqs_celery.bin.context import GlobalOptions, load_app
from pyqs_celery.bin.daemon import Daemon
from pyqs_celery.bin.worker_config import log_level


@click.command()
@click.option("-s", "--schedule", "--schedule-filename", "schedule", help="The file that remembers what has run.")
@click.option("-S", "--scheduler", help="The scheduler's class, as module:Class, or the name of an entry point.")
@click.option(
    "--max-interval", type=click.FloatRange(min=0.1), help="Seconds between two looks at the schedule at most."
)
@click.option("-l", "--loglevel", default="WARNING", help="Default: WARNING.")
@click.option("-f", "--logfile", help="Log to this file instead of standard error.")
@click.option("--pidfile", help="Write the process id here; refuse to start while its owner lives.")
@click.option("-D", "--detach", is_flag=True, help="Go to the background.")
@click.option("--uid", help="User, by name or number, to become.")
@click.option("--gid", help="Group, by name or number, to become.")
@click.option("--umask", help="Octal umask.")
@click.option("--executable", help="Accepted for Celery's sake: the detached beat is this very process.")
@click.pass_obj
def beat(
    options: GlobalOptions,
    /,
    schedule: str | None,
    scheduler: str | None,
    max_interval: float | None,
    loglevel: str,
    logfile: str | None,
    pidfile: str | None,
    detach: bool,
    uid: str | None,
    gid: str | None,
    umask: str | None,
    executable: str | None,  # noqa: ARG001 - Celery's flag
) -> int:
    """Send periodic tasks: those of beat_schedule and of add_periodic_task.

    Run one of these for an application; several only with beat_lock_queue, of which one then ticks.
    """
    app = load_app(options)
    made = app.Beat(
        max_interval=max_interval,
        scheduler=scheduler,
        schedule=str(Path(schedule).absolute()) if schedule else None,
        loglevel=log_level(loglevel),
        logfile=logfile,
        no_color=options.no_color,
        quiet=options.quiet,
    )
    with Daemon(pidfile=pidfile, detach=detach, logfile=logfile, uid=uid, gid=gid, umask=umask):
        code: int = made.run()
        return code
