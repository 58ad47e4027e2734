"""``python produce.py celery_side|our_side`` sends the calls it reads from standard input, one JSON list a line.

A call is [task, args, kwargs, options]; ``link`` and ``chain`` hold further calls.
"""

import importlib
import json
import sys
from datetime import datetime, timedelta, timezone

side = importlib.import_module(sys.argv[1])


def sendable(value):
    if isinstance(value, dict) and "$in_seconds" in value:
        return datetime.now(timezone.utc) + timedelta(seconds=value["$in_seconds"])
    if isinstance(value, dict) and "$set" in value:
        return set(value["$set"])
    if isinstance(value, dict) and "$date" in value:
        return datetime.fromisoformat(value["$date"])
    if isinstance(value, list):
        return [sendable(each) for each in value]
    if isinstance(value, dict):
        return {key: sendable(each) for key, each in value.items()}
    return value


for line in sys.stdin:
    name, args, kwargs, options = json.loads(line)
    options = sendable(options)
    protocol = options.pop("protocol", 2)
    side.app.conf.task_protocol = protocol
    if sys.argv[1] == "celery_side":
        side.app.amqp.__dict__.pop("create_task_message", None)  # Celery keeps the protocol it was first asked for
    links = [side.app.signature(f"compat.{each[0]}", args=each[1]) for each in options.pop("link", [])]
    if links:
        options["link"] = links
    steps = options.pop("chain", None)
    if steps:
        from celery import chain  # noqa: TID251 - the peer itself

        calls = [[name, args], *steps]
        chain(*(side.app.signature(f"compat.{each}", args=given) for each, given in calls)).apply_async(**options)
        continue
    side.tasks[name].apply_async(sendable(args), sendable(kwargs), **options)
print("sent")
