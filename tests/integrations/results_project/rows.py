"""Stores one of everything by the back end, and prints the rows as JSON without what differs from run to run."""

import json
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

import django

django.setup()

from celery import exceptions, states
from celery.app.task import Context
from django_celery_results.models import GroupResult, TaskResult
from shop import celery_app as app

CHANGING = ("id", "date_created", "date_done")
RESULTS = {
    "value": (states.SUCCESS, {"a": [1, "é"]}),
    "none": (states.SUCCESS, None),
    "started": (states.STARTED, {"pid": 1, "hostname": "w"}),
    "error": (states.FAILURE, KeyError("k", 3)),
    "retry": (states.RETRY, ValueError("again")),
    "revoked": (states.REVOKED, exceptions.TaskRevokedError("terminated")),
}


def request_of(task_id):
    found = Context(
        id=task_id,
        task="jobs.tasks.add",
        args=[1],
        kwargs={"x": 2},
        argsrepr="[1]",
        kwargsrepr="{'x': 2}",
        hostname="w",
        periodic_task_name="nightly",
        delivery_info={"routing_key": "q"},
    )
    found.children.append(app.AsyncResult(f"{task_id}-kid"))
    return found


def main():
    for kind, (state, value) in RESULTS.items():
        traceback = "tb" if state == states.FAILURE else None
        app.backend.store_result(kind, value, state, traceback=traceback, request=request_of(kind))
    app.backend.store_result("bare", 1, states.SUCCESS)
    app.GroupResult("g", [app.AsyncResult("a"), app.AsyncResult("b")]).save()
    rows = [{**row, "date_started": row["date_started"] is not None} for row in TaskResult.objects.values()]
    rows += GroupResult.objects.values()
    print(json.dumps([{key: value for key, value in row.items() if key not in CHANGING} for row in rows]))
    TaskResult.objects.all().delete()
    GroupResult.objects.all().delete()


main()
