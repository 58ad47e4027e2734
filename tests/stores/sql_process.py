"""A process of its own on a database of results: ``python -m tests.stores.sql_process what URL ...``; it tells what it does."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from pyqs_celery import Celery, states
from pyqs_celery.app.request import Context


class DiesWhenItSends(Celery):
    """The process is killed at the moment when it would send a message."""

    def send_task(self, *args: Any, **kwargs: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


def say(what: Any) -> None:
    print(json.dumps(what), flush=True)


def make_app(url: str, cls: type[Celery] = Celery) -> Any:
    app = cls("proj", broker="sqs://", backend=url, set_as_current=False)
    app.conf.update(database_chord_counter=True, task_create_missing_queues=True)
    return app


def write(url: str, name: str, number: str) -> None:
    """Three writes for each task, as a worker does."""
    backend = make_app(url).backend
    for index in range(int(number)):
        task_id = f"{name}-{index}"
        for state, value in ((states.STARTED, {"pid": 1}), (states.RETRY, ValueError("x")), (states.SUCCESS, index)):
            backend.store_result(task_id, value, state)
    say("done")


def report(url: str, kind: str) -> None:
    """Report members of a chord, one a line of standard input: ``[group id, member id, index, body]``."""
    app = make_app(url, DiesWhenItSends if kind == "dies" else Celery)
    for line in sys.stdin:
        group_id, member, index, body = json.loads(line)
        request = Context(id=member, task="proj.member", group=group_id, group_index=index, chord=body)
        app.backend.mark_as_done(member, index, request=request)
        say(index)


if __name__ == "__main__":
    {"write": write, "report": report}[sys.argv[1]](*sys.argv[2:])
