"""Writes and reads results in a database with real Celery: ``sql_peer.main(URL, SERIALIZER)``, a call of JSON a line.

``["store", id, kind]`` writes one of the results below, ``["read", id]`` tells what is there, ``["save", id, members]`` and
``["restore", id]`` do the same for groups. Answers are lines of JSON. Ours makes its results from the same table.
"""

import datetime as dt
import decimal
import importlib
import json
import sys
import uuid


class Custom(Exception):
    """An exception that the reader has not loaded."""


def results(exceptions):
    """state and value by kind"""
    return {
        "value": ("SUCCESS", {"a": [1, None, "é"], "b": {"c": 1.5}}),
        "none": ("SUCCESS", None),
        "typed": ("SUCCESS", [dt.datetime(2024, 5, 6, 7), decimal.Decimal("1.5"), uuid.UUID(int=7)]),
        "progress": ("PROGRESS", {"done": 3}),
        "started": ("STARTED", {"pid": 1, "hostname": "w@h"}),
        "error": ("FAILURE", KeyError("k", 3)),
        "custom": ("FAILURE", Custom("why", 1)),
        "retry": ("RETRY", ValueError("again")),
        "revoked": ("REVOKED", exceptions.TaskRevokedError("terminated")),
        "chord": ("FAILURE", exceptions.ChordError("Dependency x raised y")),
        "lost": ("FAILURE", exceptions.WorkerLostError("signal 9")),
    }


def shown(value):
    if isinstance(value, BaseException):
        module = type(value).__module__.replace("pyqs_celery", "celery").replace("billiard", "celery")
        return [type(value).__name__, module, [shown(arg) for arg in value.args]]
    if isinstance(value, (list, tuple)):
        return [shown(each) for each in value]
    return value if isinstance(value, (dict, str, int, float, type(None))) else repr(value)


def document(app, task_id):
    result = app.AsyncResult(task_id)
    # of a task that has not ended both give the tuples
    children = [child[0][0] if isinstance(child, (list, tuple)) else child.id for child in result.children or ()]
    extended = [result.name, shown(result.args), result.kwargs, result.worker, result.retries, result.queue]
    return {
        "state": result.state,
        "result": shown(result.result),
        "traceback": result.traceback,
        "children": children,
        "extended": extended,
        "date": str(result.date_done)[:10] if result.date_done else None,
    }


def store(app, context, exceptions, task_id, kind):
    state, value = results(exceptions)[kind]
    request = context(
        id=task_id,
        task="proj.t",
        args=[1],
        kwargs={"x": 2},
        hostname="w",
        retries=1,
        delivery_info={"routing_key": "q"},
    )
    request.children.append(app.AsyncResult(f"{task_id}-kid"))
    app.backend.store_result(task_id, value, state, traceback="tb" if state == "FAILURE" else None, request=request)


def group_of(app, group_id, members):
    inner = app.GroupResult(f"{group_id}-inner", [app.AsyncResult(f"{group_id}-deep")])
    return app.GroupResult(group_id, [*map(app.AsyncResult, members), inner])


def answer(app, context, exceptions, call):
    what, key, *rest = call
    if what == "store":
        return store(app, context, exceptions, key, *rest)
    if what == "read":
        return document(app, key)
    if what == "save":
        group_of(app, key, *rest).save()
        return None
    restored = app.GroupResult.restore(key)
    return restored and json.loads(json.dumps(restored.as_tuple()))


def main(url, serializer):
    celery, exceptions, tasks = map(importlib.import_module, ("celery", "celery.exceptions", "celery.app.task"))
    app = celery.Celery("peer", broker="memory://", backend=url, set_as_current=True)
    app.conf.update(result_extended=True, result_serializer=serializer, accept_content=["json", serializer])
    for line in sys.stdin:
        print(json.dumps(answer(app, tasks.Context, exceptions, json.loads(line))), flush=True)
