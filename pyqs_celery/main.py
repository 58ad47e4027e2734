"""PyQS's entry point for programs: ``_main(["email.*"], concurrency=5)`` runs a worker and returns when it has stopped.

PyQS's documentation has Django management commands call ``pyqs.main._main``; ``run`` is its public name here.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

from pyqs_celery import _state

__all__ = ("run",)


def run(
    queue_prefixes: Iterable[str],
    concurrency: int = 5,
    logging_level: str = "WARN",
    region: str | None = None,
    access_key_id: str | None = None,
    secret_access_key: str | None = None,
    interval: float = 1,  # noqa: ARG001 - PyQS's parameter
    batchsize: int = 10,
    prefetch_multiplier: int = 2,
    simple_worker: bool = False,
    endpoint_url: str | None = None,
) -> int:
    """Run a worker on queues or globs with PyQS's parameters, and give its exit code. Blocks until SIGTERM or SIGINT.

    ``interval`` is accepted and not needed: there is no pause between messages.
    """
    from pyqs_celery.bin.options import no_flags
    from pyqs_celery.bin.worker_config import Machine, build
    from pyqs_celery.worker.start import run_worker

    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    queues = tuple(name.strip() for text in queue_prefixes for name in text.split(",") if name.strip())
    app = _state.get_current_app()
    set_broker(app, region, access_key_id, secret_access_key, endpoint_url)
    flags = no_flags() | {
        "concurrency": concurrency,
        "loglevel": logging_level,
        "prefetch_multiplier": prefetch_multiplier,
        "simple_worker": simple_worker,
        "batch_size": batchsize,
    }
    machine = Machine(socket.gethostname(), os.cpu_count() or 1)
    return run_worker(app, build(app.conf, flags, queues, machine, app_spec=None))


_main = run


def set_broker(
    app: object, region: str | None, access_key_id: str | None, secret_access_key: str | None, endpoint_url: str | None
) -> None:
    """Put PyQS's command line options into the app's broker settings."""
    from urllib.parse import quote

    conf = app.conf  # type: ignore[attr-defined]
    options = dict(conf.broker_transport_options or {})
    if region:
        options["region"] = region
    if endpoint_url:
        options["endpoint_url"] = endpoint_url
    conf.broker_transport_options = options
    if access_key_id and secret_access_key:
        conf.broker_url = f"sqs://{quote(access_key_id, safe='')}:{quote(secret_access_key, safe='')}@"
