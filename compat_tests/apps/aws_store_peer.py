"""Real Celery as a user of a result store: a call for each line on standard input, an answer for each on standard output.

``aws_store_peer.py '<settings as JSON>'``
"""

import json
import sys

from celery import Celery  # noqa: TID251 - the peer itself
from celery.app.task import Context  # noqa: TID251

app = Celery("compat", set_as_current=False)
app.conf.update(json.loads(sys.argv[1]))
backend = app.backend


def store(task_id, value):
    backend.store_result(task_id, value, "SUCCESS")


def fail(task_id, *args):
    backend.store_result(task_id, ValueError(*args), "FAILURE", traceback="Traceback ...")


def group(group_id, task_ids):
    app.GroupResult(group_id, [app.AsyncResult(each) for each in task_ids]).save()


def begin(group_id, task_ids, body):
    backend.apply_chord((group_id, [app.AsyncResult(each) for each in task_ids]), app.signature(body))


def report(group_id, task_id, index, value, body):
    backend.mark_as_done(
        task_id, value, request=Context(id=task_id, group=group_id, group_index=index, chord=body, task="compat.member")
    )


def read(task_id):
    meta = backend.get_task_meta(task_id)
    result = meta["result"]
    if isinstance(result, Exception):
        result = [type(result).__name__, list(result.args)]
    return [meta["status"], result, meta.get("traceback")]


def read_group(group_id):
    found = app.GroupResult.restore(group_id, backend=backend)
    return found and [each.id for each in found.results]


def can_count():
    return backend.implements_incr


for line in sys.stdin:
    name, *arguments = json.loads(line)
    print(json.dumps(globals()[name](*arguments)))
