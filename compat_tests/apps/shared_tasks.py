"""The tasks that both sides register under the same names; ``declare(app)`` works with Celery's app and with ours."""

import json
import os
import time


def write(event, key, **facts):
    line = json.dumps({"event": event, "key": key, "side": os.environ["SIDE"], "pid": os.getpid(), **facts}) + "\n"
    descriptor = os.open(os.environ["DIARY"], os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def declare(app):
    def task(**options):
        return app.task(name=f"compat.{options.pop('called')}", **options)

    @task(called="note")
    def note(key, *args, **kwargs):
        write("run", key, args=repr(args), kwargs=repr(sorted(kwargs.items())))
        return key

    @task(called="when")
    def when(key):
        write("run", key, at=time.time())

    @task(called="again", bind=True, max_retries=3)
    def again(self, key):
        write("run", key, retries=self.request.retries, id=self.request.id)
        if self.request.retries < 2:
            raise self.retry(countdown=0)

    @task(called="add")
    def add(x, y):
        return x + y

    @task(called="keep")
    def keep(value, key):
        write("run", key, value=value)

    @task(called="see", bind=True)
    def see(self, key):
        request = self.request
        write(
            "run",
            key,
            headers=dict(request.headers or {}),
            timelimit=request.timelimit,
            root=request.root_id == request.id,
            group=request.group,
        )

    return {"note": note, "when": when, "again": again, "add": add, "keep": keep, "see": see}
