"""Does a part of a chord by the back end, word by word, and prints what came of it.

``begin`` is the producer's part, a number that of the member with this place, ``body`` that of the body, and from ``dies``
on the process is killed at the moment when it would send something.
"""

import json
import os
import signal
import sys

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

import django

django.setup()

from celery.app.task import Context
from django_celery_results.models import ChordCounter
from shop import celery_app as app

BODY = {
    "task": "jobs.tasks.total",
    "args": [],
    "kwargs": {},
    "options": {"task_id": "body"},
    "subtask_type": None,
    "immutable": False,
}
SENT = []
app.send_task = lambda name, args=None, kwargs=None, **options: SENT.append(list(args))


def main(words):
    for word in words:
        if word == "begin":
            members = [app.AsyncResult(f"member-{index}") for index in range(4)]
            app.backend.apply_chord(("the-group", members), app.signature(BODY))
            continue
        if word == "body":
            app.backend.store_result("body", 6, "SUCCESS")
            continue
        if word == "dies":
            app.send_task = lambda *args, **options: os.kill(os.getpid(), signal.SIGKILL)
            continue
        request = Context(id=f"member-{word}", group="the-group", group_index=int(word), chord=dict(BODY))
        app.backend.mark_as_done(request.id, int(word), request=request)
    print(json.dumps({"sent": SENT, "left": list(ChordCounter.objects.values_list("count", flat=True))}))


main(sys.argv[1:])
