"""PyQS, as its users write tasks: it finds them by module and name."""

from __future__ import annotations

from typing import Any

from pyqs import task
from pyqs.decorator import task_delayer

from benchmarks import work


@task(queue="bench")
def noop() -> None:
    """Does nothing."""
    work.noop()


@task(queue="bench")
def sleep(seconds: float) -> None:
    """Waits."""
    work.sleep(seconds)


@task(queue="bench")
def stamp(sent: float) -> None:
    """Notes when it runs."""
    work.stamp(sent)


def send(task: str, *args: Any, queue: str) -> None:
    """One ``.delay()``."""
    function = globals()[task]
    if queue == "bench":
        function.delay(*args)
    else:
        task_delayer(function, queue)(*args)
