"""``pyqs-celery demo``: queues that Celery filled are drained by a worker, on an SQS that lives as long as the demo."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import click

from pyqs_celery.bin.context import GlobalOptions
from pyqs_celery.bin.demo_stage import DemoError, Process, ask, running_worker, stage
from pyqs_celery.bin.exit_codes import EX_OK
from pyqs_celery.bin.output import styled, table
from pyqs_celery.broker.client import SqsClient
from pyqs_celery.broker.config import BrokerConfig
from pyqs_celery.broker.delivery import Outgoing
from pyqs_celery.broker.queues import sqs_queue_name

APP = "pyqs_celery.bin.demo_app:app"
PATTERN = "email.*"
QUEUES = ("email.tasks.send", "email.tasks.archive", "email.pyqs")
OTHER_QUEUE = "billing.invoices"
POISON_QUEUE = "email.tasks.poison"
DEAD_LETTERS = "email-tasks-poison-dlq"
POISON_DELIVERIES = 3
ADDRESSES = ("ann@example.org", "bob@example.org", "cleo@example.org", "dan@example.org", "eve@example.org")
DRAIN_SECONDS = 25.0
TASK_LINE = re.compile(r"Task (?P<task>[\w.]+)\[(?P<id>[^\]]+)\] (?P<what>succeeded in|raised unexpected)(?P<rest>.*)")


@dataclass
class Story:
    """What was sent and what has come of it. Keys of ``sent`` are task ids, values who wrote the message."""

    sent: dict[str, str] = field(default_factory=dict)
    anonymous: dict[str, str] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    failures: int = 0

    @property
    def expected(self) -> int:
        """How many tasks are to succeed."""
        return len(self.sent) + len(self.anonymous)

    def origin(self, task_id: str, task: str) -> str:
        """Who wrote the message; PyQS's have no id of their own."""
        return self.sent.get(task_id) or self.anonymous.get(task) or "?"


@click.command()
@click.pass_obj
def demo(options: GlobalOptions, /) -> int:
    """Show the main job on real messages: about 15 seconds, nothing outside this machine, nothing left behind.

    Starts an SQS in a process of its own, puts messages there that Celery 3.1 to 5.7 and PyQS wrote, sends some
    more, starts a worker on 'email.*', and shows each task run and one message that fails end in a dead-letter queue.
    """
    story, began = Story(), time.monotonic()
    with stage() as (endpoint, environment, folder):
        click.echo(f"An embedded SQS listens on {endpoint}.")
        restore = _enter(environment)
        try:
            _fill(story, endpoint)
        finally:
            _leave(restore)
        click.echo(
            f"{story.expected} messages of Celery 3.1 to 5.7, PyQS and this package wait on {', '.join(QUEUES)};"
        )
        click.echo(f"one that always fails waits on {POISON_QUEUE}, one nobody asked for on {OTHER_QUEUE}.\n")
        arguments = ["-A", APP, "worker", "-Q", PATTERN, "-c", "4", "-l", "INFO"]
        click.echo(f"$ pyqs-celery {' '.join(arguments[:-2])}\n".replace(PATTERN, f"'{PATTERN}'"))
        with running_worker(arguments, environment, folder) as worker:
            ask(endpoint, "reset")
            _follow(story, worker, endpoint, colour=options.colour)
            counters = ask(endpoint, "counters")["actions"]
            code = worker.stop()
        _check(story, ask(endpoint, "state"), code)
    click.echo("\n" + table(sorted(counters.items()), ("SQS request", "count")))
    click.echo(
        f"\n{len(story.done)} tasks ran once each and their messages are deleted.\n"
        f"The failing one was tried {story.failures} times and lies in {DEAD_LETTERS}; {OTHER_QUEUE} was not touched.\n"
        f"The worker stopped with code 0; nothing is left behind ({time.monotonic() - began:.0f}s)."
    )
    return EX_OK


def _enter(environment: Mapping[str, str]) -> dict[str, str | None]:
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    return before


def _leave(before: Mapping[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _fill(story: Story, endpoint: str) -> None:
    """Create the queues and put on them what was captured, then what the shim sends."""
    client = SqsClient(BrokerConfig(region="us-east-1", endpoint_url=endpoint))
    urls = {name: client.create_queue(sqs_queue_name(name), {}) for name in (*QUEUES, OTHER_QUEUE)}
    letters = client.create_queue(DEAD_LETTERS, {})
    arn = client.queue_attributes(letters, DEAD_LETTERS)["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": POISON_DELIVERIES})
    client.create_queue(sqs_queue_name(POISON_QUEUE), {"VisibilityTimeout": "1", "RedrivePolicy": policy})
    for captured in captured_messages():
        client.send(urls[captured["queue"]], Outgoing(captured["queue"], captured["body"]))
        if captured["id"] is None:
            story.anonymous[captured["task"]] = captured["producer"]
        else:
            story.sent[captured["id"]] = f"{captured['producer']}, protocol {captured['protocol']}"
    from pyqs_celery.bin.demo_app import app, invoice, poison, send_email

    for address in ADDRESSES:
        story.sent[send_email.delay(address).id] = "pyqs-celery, .delay()"
    later = send_email.apply_async(("fay@example.org",), countdown=2)
    story.sent[later.id] = "pyqs-celery, countdown=2"
    poison.delay()
    invoice.delay()
    app.publisher().close()


def captured_messages() -> list[dict[str, Any]]:
    """The messages in the package that real producers wrote, oldest version first."""
    folder = resources.files("pyqs_celery.bin") / "demo_data"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".json"))
    return [json.loads((folder / name).read_text("utf-8")) for name in names]


def _follow(story: Story, worker: Process, endpoint: str, *, colour: bool) -> None:
    """Print a line for each task that ends, until all have and the failing message is where it belongs."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while len(story.done) < story.expected or not _is_dead(endpoint):
        if time.monotonic() > deadline:
            raise DemoError(
                f"after {DRAIN_SECONDS:g}s {len(story.done)} of {story.expected} tasks have run; "
                f"the worker's last words:\n{worker.last_words()}"
            )
        line = worker.next_line(0.25)
        found = TASK_LINE.search(line) if line else None
        if found:
            _tell(story, found, colour=colour)


def _tell(story: Story, found: re.Match[str], *, colour: bool) -> None:
    task, task_id = found["task"], found["id"]
    if found["what"] != "succeeded in":
        story.failures += 1
        mark = styled("failed", colour="red", enabled=colour)
        click.echo(f"         {mark}  {task:<20} delivery {story.failures} of {POISON_DELIVERIES}{found['rest']}")
        return
    story.done.append(task_id)
    mark = styled("done", colour="green", enabled=colour)
    count = f"[{len(story.done):>2}/{story.expected}]"
    _, _, result = found["rest"].partition(": ")
    click.echo(f"{count}  {mark}    {task:<20} {story.origin(task_id, task):<26} {result[:60]}")


def _is_dead(endpoint: str) -> bool:
    return bool(ask(endpoint, "state")[DEAD_LETTERS]["visible"])


def _check(story: Story, state: Mapping[str, Mapping[str, int]], code: int) -> None:
    """Raise DemoError unless everything is as the demo says."""
    if code != 0:
        raise DemoError(f"the worker stopped with code {code} instead of 0")
    if len(set(story.done)) != len(story.done):
        raise DemoError("a task ran twice")
    wanted = {sqs_queue_name(name): 0 for name in (*QUEUES, POISON_QUEUE)}
    wanted |= {DEAD_LETTERS: 1, sqs_queue_name(OTHER_QUEUE): 1}
    left = {name: counts["visible"] + counts["inflight"] + counts["delayed"] for name, counts in state.items()}
    if left != wanted:
        raise DemoError(f"the queues hold {left}, not {wanted}")
