"""The demo's application: the tasks its captured messages name, and some of its own."""

from __future__ import annotations

from typing import Any

from pyqs_celery.app.base import Celery
from pyqs_celery.app.shared import shared_task

app = Celery(
    "demo",
    broker_url="sqs://",
    task_routes={"email.*": {"queue": "email.tasks.send"}, "billing.*": {"queue": "billing.invoices"}},
)


@app.task(name="golden.add")
def add(first: Any, second: Any, **_: Any) -> str:
    """Add two numbers, or join two texts."""
    return str(first + second) if isinstance(second, int) else f"{first}{second}"


@app.task(name="golden.echo")
def echo(*args: Any, **kwargs: Any) -> str:
    """Say what came in."""
    return f"{args} {kwargs}"


@app.task(name="custom.path.to_task")
def pyqs_task(text: str) -> str:
    """What PyQS would have called by its path."""
    return text


@shared_task(name="email.send")
def send_email(address: str) -> str:
    """Pretend to send an email."""
    return f"sent to {address}"


@app.task(name="email.poison", queue="email.tasks.poison")
def poison() -> None:
    """Fail, whoever tries."""
    raise ValueError("no template of that name")


@app.task(name="billing.invoice")
def invoice() -> None:
    """Never run in the demo: the worker serves email.* only."""
