"""``pyqs-celery health``: a probe. It asks the worker's socket, port or file, and imports neither boto3 nor the application."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import click

from pyqs_celery import nodes
from pyqs_celery.bin.exit_codes import EX_FAILURE, EX_OK
from pyqs_celery.utils.nodenames import node_name
from pyqs_celery.worker import health as rules

Verdicts = list[dict[str, Any]]


def node_of(pattern: str) -> str:
    """The node that ``-d`` means. Raises click's UsageError."""
    try:
        return node_name(pattern)
    except ValueError as exc:
        raise click.UsageError(f"-d: {exc}") from exc


@click.command()
@click.option("-d", "--destination", help="The worker, by its node name. Default: all of this user's on this host.")
@click.option("--port", type=click.IntRange(1, 65535), help="Ask the port of --health-port instead.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address of that port.")
@click.option("--file", "path", type=click.Path(path_type=Path), help="Read the file of --health-file instead.")
@click.option("--live", is_flag=True, help="Only what starting the worker anew would cure counts.")
@click.option("-t", "--timeout", type=click.FloatRange(min=0), default=2.0, show_default=True, help="Seconds to wait.")
@click.option("--control-dir", help="The folder of the workers' sockets.")
def health(
    destination: str | None,
    port: int | None,
    host: str,
    path: Path | None,
    live: bool,
    timeout: float,
    control_dir: str | None,
) -> int:
    """Say whether a worker of this host is healthy, in a line of JSON: exit code 0 if it is, 1 if not.

    Healthy: every queue completed a poll in the last minute, or every slot is busy and its lease kept; and every process
    can work.
    """
    name = node_of(destination) if destination else None
    if path is not None:
        verdicts = _by_file(path, live)
    elif port is not None:
        verdicts = _by_port(host, port, live, timeout)
    else:
        verdicts = _by_socket(name, live, timeout, control_dir)
    for verdict in verdicts:
        click.echo(json.dumps(verdict))
    return EX_OK if verdicts and all(verdict.get("status") == "ok" for verdict in verdicts) else EX_FAILURE


def _red(reason: str, hostname: str = "") -> dict[str, Any]:
    return rules.Verdict(False, "unknown", (reason,)).to_plain(hostname)


def _by_file(path: Path, live: bool) -> Verdicts:
    try:
        name, report = rules.read_file(path)
    except (OSError, ValueError) as exc:
        return [_red(f"the file {path} cannot be read: {exc}")]
    return [rules.judge(report, time.monotonic(), live=live).to_plain(name)]


def _by_port(host: str, port: int, live: bool, timeout: float) -> Verdicts:
    import http.client

    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", "/live" if live else "/health")
        plain = json.loads(connection.getresponse().read())
    except (OSError, ValueError, http.client.HTTPException) as exc:
        return [_red(f"port {port} on {host} did not answer: {exc}")]
    finally:
        connection.close()
    return [plain if isinstance(plain, dict) else _red("the answer is no worker's")]


def _by_socket(name: str | None, live: bool, timeout: float, folder: str | None) -> Verdicts:
    asked = nodes.ask(
        "health", {"live": live}, destination=None if name is None else [name], timeout=timeout, folder=folder
    )
    answers = [*asked.replies.values(), *(reply for _, reply in asked.twins)]
    verdicts = [reply for reply in answers if isinstance(reply, dict)]
    late = f"it did not answer in {timeout:g} s"
    if name is None:
        verdicts += [_red(late, each) for each in asked.silent]
    elif asked.is_silent(name):
        verdicts.append(_red(late, name))
    elif not verdicts:
        verdicts.append(_red("no such worker runs here", name))
    if not verdicts:
        where = ", ".join(str(each) for each in nodes.folders(folder))
        verdicts.append(_red(f"no worker of user {os.geteuid()} runs here (no socket in {where})"))
    return verdicts
