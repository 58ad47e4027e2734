"""Sends one of everything, waits for the results, and prints them as JSON with the rows they left."""

import json
import os
import sys

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

import django

django.setup()

from celery import chord, group
from django_celery_results.models import ChordCounter, TaskResult
from jobs.tasks import add, broken, dies_once, parent, total


def caught(result):
    try:
        return result.get(timeout=60, follow_parents=False)
    except Exception as exc:  # noqa: BLE001 - the test looks at it
        return [type(exc).__name__, str(exc)]


def main(folder):
    found = {"value": add.delay(2, 3).get(timeout=60)}
    failed = broken.delay("no")
    found["failure"] = caught(failed)
    found["traceback"] = "ValueError: no" in (failed.traceback or "")
    family = parent.delay()
    found["parent"] = family.get(timeout=60) == family.id
    found["children"] = [child.get(timeout=60) for child in family.children]
    several = group(add.s(1, 1), add.s(2, 2)).apply_async()
    several.save()
    found["group"] = type(several).restore(several.id).get(timeout=60)
    found["chord"] = chord([add.s(i, i) for i in range(20)], total.s()).delay().get(timeout=60)
    found["nested"] = chord([group(add.s(1, 1), add.s(2, 2)), add.s(3, 3)], total.s()).delay().get(timeout=60)
    found["killed member"] = (
        chord([dies_once.s(f"{folder}/a", 1), dies_once.s(f"{folder}/b", 2), add.s(1, 2)], total.s())
        .delay()
        .get(timeout=90)
    )
    found["failed chord"] = caught(chord([add.s(1, 1), broken.s("bad")], total.s()).delay())
    found["counters"] = ChordCounter.objects.count()
    row = TaskResult.objects.get(task_id=failed.id)
    found["row"] = [row.status, row.task_name, row.content_type, row.content_encoding, row.worker]
    print(json.dumps(found))


main(sys.argv[1])
