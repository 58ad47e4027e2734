"""Each row of the compatibility table, exercised with a running worker of ours over SQS."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from compat_tests.surface_rows import ROWS, insert
from pyqs_celery.contrib.testing.app import TestApp
from pyqs_celery.contrib.testing.worker import start_worker
from tests.support.waiting import until

ROOT = Path(__file__).parents[1]


class World:
    """An application, its worker, and tasks that are made as they are needed."""

    def __init__(self, app, url):
        self.app = app
        self.url = url

    def task(self, function, **options):
        """A task of this function; it has failures deleted, so that each row leaves its queue empty."""
        options.setdefault("acks_on_failure_or_timeout", True)
        return self.app.task(name=f"row-{uuid.uuid4().hex}", lazy=False, **options)(function)

    def run(self, function, **options):
        return self.task(function, **options).delay().get(timeout=15)

    def settle(self, condition):
        until(condition, "the row's effect", 15)


@pytest.fixture(scope="module")
def world(sqs_server):
    sqs_server.wipe()
    url = f"sqs://test:test@{sqs_server.endpoint.removeprefix('http://')}"
    app = TestApp("rows", broker=url)
    app.conf.broker_transport_options = {"region": "us-east-1", "is_secure": False, "wait_time_seconds": 1}
    app.task(name="world.echo", lazy=False)(lambda x: x)
    for queue in ("celery", "other", "unknown"):
        sqs_server.create(queue, VisibilityTimeout=2)
    sqs_server.create("orders.fifo", VisibilityTimeout=2)
    with start_worker(
        app, concurrency=4, pool="threads", queues=["celery,other,orders.fifo,unknown"], perform_ping_check=False
    ):
        yield World(app, url)
    app.close()


@pytest.mark.parametrize("row", [row for row in ROWS if row.prove], ids=lambda row: f"{row.section}: {row.item[:60]}")
def test_a_row(row, world, request):
    wanted = row.prove.__code__.co_varnames[: row.prove.__code__.co_argcount]

    row.prove(**{name: request.getfixturevalue(name) for name in wanted})


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.elsewhere], ids=lambda row: f"{row.section}: {row.item[:60]}"
)
def test_a_row_that_is_proved_elsewhere_names_a_test_that_exists(row):
    assert (ROOT / row.elsewhere).exists()


def test_the_readme_has_the_table_of_now():
    text = (ROOT / "README.rst").read_text("utf-8")

    assert insert(text) == text, "run python -m compat_tests.surface_rows"
