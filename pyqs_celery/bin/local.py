"""``pyqs-celery local``: an SQS on this machine, for development and tests."""

from __future__ import annotations

import click

from pyqs_celery.bin.errors import UsageError
from pyqs_celery.bin.exit_codes import EX_OK

PORT = 9324


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=PORT, show_default=True, type=click.IntRange(0, 65535), help="0: any free port.")
@click.option("--data", type=click.Path(dir_okay=False), help="SQLite file that keeps everything over restarts.")
@click.option("--queue", "queues", multiple=True, help="Create this queue at the start; may be repeated.")
@click.option("--latency-ms", default=0.0, type=click.FloatRange(min=0), help="Delay each answer by so much.")
@click.option("--allow-remote", is_flag=True, help="Listen on an address that others can reach. It checks no keys.")
def local(
    host: str, port: int, data: str | None, queues: tuple[str, ...], latency_ms: float, allow_remote: bool
) -> int:
    """Run an SQS for development until it is stopped (SIGTERM or Ctrl-C). Queues are in memory, or in --data.

    It prints the variables that lead AWS's SDKs, and any sqs:// broker URL, to it; version 1 of AWS's command line needs
    --endpoint-url. Never meant for production.
    """
    from pyqs_celery.broker.queues import sqs_queue_name
    from pyqs_celery.local.serve import check_host, serve

    check_host(host, allow_remote)
    try:
        serve(
            host,
            port,
            data=data,
            queues=tuple(sqs_queue_name(name) for name in queues),
            latency_ms=latency_ms,
            on_ready=_tell,
        )
    except OSError as exc:
        raise UsageError(f"cannot listen on {host}:{port}: {exc.strerror or exc}; name another --port") from exc
    return EX_OK


def _tell(endpoint: str) -> None:
    click.echo(f"Embedded SQS on {endpoint}; to use it:\n")
    click.echo(f"export AWS_ENDPOINT_URL_SQS={endpoint}")
    click.echo("export AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local AWS_DEFAULT_REGION=us-east-1")
