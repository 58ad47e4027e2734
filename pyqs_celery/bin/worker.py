"""``pyqs-celery worker``: flags become a WorkerConfig, and the worker is started with it."""

from __future__ import annotations

import os
import platform
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from pyqs_celery.app.config import from_command_line
from pyqs_celery.bin.context import GlobalOptions, load_app
from pyqs_celery.bin.daemon import Daemon
from pyqs_celery.bin.errors import UsageError
from pyqs_celery.bin.exit_codes import EX_FAILURE, EX_OK
from pyqs_celery.bin.options import notes_on, worker_options
from pyqs_celery.bin.worker_config import GREEN_POOLS, Machine, build, worker_name
from pyqs_celery.exceptions import BootError, ImproperlyConfigured
from pyqs_celery.utils.nodenames import node_format
from pyqs_celery.utils.output import say
from pyqs_celery.worker.config import WorkerConfig

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery

GLOBAL_NAMES = {"-A", "--app", "-b", "--broker", "--result-backend", "--config", "--loader", "--workdir"}
ENDS_WITH = {signal.SIGTERM: EX_OK, signal.SIGQUIT: EX_OK, signal.SIGINT: EX_FAILURE}
"""Exit codes of a worker that is stopped before it has begun, as of one that has."""


class WorkerCommand(click.Command):
    """Says where the application belongs when ``-A`` stands behind ``worker``, as it did before Celery 5."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, with a better sentence for a misplaced global option."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as exc:
            if exc.option_name in GLOBAL_NAMES:
                raise click.UsageError(
                    f"{exc.option_name} stands before the command, as in: pyqs-celery {exc.option_name} ... worker", ctx
                ) from exc
            raise


@click.command(cls=WorkerCommand)
@click.argument("names", metavar="[QUEUES] [KEY=VALUE]", nargs=-1)
@worker_options
@click.pass_obj
def worker(options: GlobalOptions, /, names: tuple[str, ...], **given: Any) -> int:
    """Start a worker.

    QUEUES are names and patterns, PyQS's way of naming what -Q names. KEY=VALUE changes a setting for this worker, as
    in worker_lease_seconds=120.
    """
    with _ended_by_signals():
        try:
            return _run(options, names, given)
        except ImproperlyConfigured as exc:
            raise BootError(str(exc)) from exc


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Until the manager takes over, a signal ends the command at once: nothing is in hand, and pid 1 has no default for it."""

    def end(signum: int, _: FrameType | None) -> None:
        raise SystemExit(ENDS_WITH[signal.Signals(signum)])

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.getsignal(signum) for signum in ENDS_WITH}
    taken = [signum for signum, handler in before.items() if handler is not signal.SIG_IGN]
    for signum in taken:
        signal.signal(signum, end)
    try:
        yield
    finally:
        for signum in taken:
            signal.signal(signum, before[signum])


def _run(options: GlobalOptions, names: tuple[str, ...], given: dict[str, Any]) -> int:
    app = load_app(options)
    overrides = [name for name in names if "=" in name]
    queues = tuple(name for name in names if "=" not in name)
    _apply(app, given, overrides)
    machine = Machine(socket.gethostname(), len(os.sched_getaffinity(0)))
    given = {**given, **_files(given, worker_name(given["hostname"], machine))}
    config = build(app.conf, {**given, "quiet": options.quiet}, queues, machine, app_spec=_spec(options, app))
    broker = app.broker_config().shown
    daemon = {name: given[name] for name in ("pidfile", "detach", "logfile", "uid", "gid", "umask")}
    with Daemon(**daemon):
        if not options.quiet:
            say(banner(config, options.app or app.main or "default", broker))
        return _start(app, config, given, colour=False if options.no_color else None)


def _files(given: dict[str, Any], name: str) -> dict[str, Any]:
    """Log and pid files with the node's name in them."""
    try:
        return {key: node_format(given[key], name) for key in ("logfile", "pidfile") if given[key]}
    except ValueError as exc:
        raise UsageError(str(exc)) from exc


def _apply(app: Celery, given: dict[str, Any], overrides: list[str]) -> None:
    """Put what flags say about settings into the application's."""
    from pyqs_celery.main import set_broker

    app.conf.update(from_command_line(overrides))
    modules = [name.strip() for value in given["include"] for name in value.split(",") if name.strip()]
    given["include"] = tuple(modules)
    if modules:
        app.conf.include = [*_as_list(app.conf.include), *modules]
    if bool(given["access_key_id"]) != bool(given["secret_access_key"]):
        raise UsageError(
            "--access-key-id and --secret-access-key belong together: give both, or none to use AWS's chain"
        )
    keys = ("region", "access_key_id", "secret_access_key", "endpoint_url")
    if any(given[key] for key in keys):
        set_broker(app, *(given[key] for key in keys))


def _as_list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


def _spec(options: GlobalOptions, app: Celery) -> str | None:
    """What stands for ``-A`` when deciding which modules a PyQS message may name."""
    return options.app or (app.main if options.application is not None else None)


def banner(config: WorkerConfig, app_name: str, broker: str) -> str:
    """The start of the banner; a line for each queue follows when the queues are known."""
    from pyqs_celery import __version__

    lease = f"{config.lease_seconds}s" if config.lease_seconds is not None else "each queue's"
    rows = [
        ("app", app_name),
        ("broker", broker),
        ("concurrency", f"{config.concurrency} ({config.pool})"),
        ("queues", ", ".join(config.queues) or "the application's"),
        ("lease", f"{lease}, renewed while a message is held"),
        ("stop", f"SIGTERM; running tasks get {config.shutdown_timeout:g}s"),
    ]
    head = f"{config.hostname} pyqs-celery {__version__}, Python {platform.python_version()}"
    return "\n".join([head, *(f"  {name + ':':<13}{value}" for name, value in rows), ""])


def _start(app: Celery, config: WorkerConfig, given: dict[str, Any], *, colour: bool | None) -> int:
    from pyqs_celery.worker.start import run_worker

    notes = notes_on(given)
    if given["pool"] in GREEN_POOLS:
        click.echo(
            f"-P {given['pool']}: tasks run in {config.concurrency} threads; there are no green threads here", err=True
        )
    return run_worker(app, config, logfile=given["logfile"], colour=colour, notes=notes, options=given)
