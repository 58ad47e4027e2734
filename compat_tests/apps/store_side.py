"""What a user of a result store does, written once for both sides: ``Side(app, Context)``.

Run by real Celery's interpreter with the settings as JSON, it takes a call for each line of standard input and answers each
on standard output.
"""

import json
import sys


class CustomError(Exception):
    """An exception that only one side may know."""


class Unserialisable:
    def __repr__(self):
        return "<no json>"


class Side:
    """Every method takes and gives what JSON can hold."""

    def __init__(self, app, context):
        self.app = app
        self.context = context

    @property
    def backend(self):
        return self.app.backend

    def fill(self):
        """A document of every kind, by ids that tell which."""
        backend = self.backend
        for number, value in enumerate([None, 1.5, "é 漢字 \x00", [1, [2, {"a": None}]], {"key": "value"}]):
            backend.store_result(f"value-{number}", value, "SUCCESS")
        backend.store_result("result", self.app.AsyncResult("child", parent=self.app.AsyncResult("parent")), "SUCCESS")
        backend.mark_as_started("started", pid=7, hostname="w1@host")
        backend.store_result("progress", {"done": 3}, "PROGRESS")
        backend.mark_as_failure("failed", ValueError("why", 3), traceback="Traceback ...")
        backend.mark_as_failure("custom", CustomError("a", {"b": 1}))
        backend.mark_as_failure("unserialisable", KeyError("a", Unserialisable()))
        backend.mark_as_retry("retried", ZeroDivisionError("again"))
        backend.mark_as_revoked("revoked", "terminated")
        for name, settings in (("called", {}), ("extended", {"result_extended": True})):
            self.app.conf.update(settings)
            backend.mark_as_done(name, 3, request=self.request(name))
            self.app.conf.result_extended = False
        members = [self.app.AsyncResult("value-0"), self.app.GroupResult("inner", [self.app.AsyncResult("failed")])]
        self.app.GroupResult("group", members, parent=self.app.AsyncResult("parent")).save()
        backend.mark_as_done("stays", 1)
        backend.mark_as_failure("stays", ValueError("too late"))

    def request(self, task_id):
        """That of a task which was called in a group by another, and has called one."""
        request = self.context(
            id=task_id,
            task="proj.add",
            args=[1, "zwei"],
            kwargs={"z": None},
            group="a-group",
            parent_id="a-parent",
            hostname="w1@host",
            retries=2,
            delivery_info={"routing_key": "emails"},
        )
        request.children.append(self.app.AsyncResult("a-child"))
        return request

    def read(self, task_id):
        meta = self.backend.get_task_meta(task_id)
        return [meta["status"], shown(meta["result"]), meta.get("traceback"), meta.get("children")]

    def read_group(self, group_id):
        found = self.app.GroupResult.restore(group_id, backend=self.backend)
        return found and json.loads(json.dumps(found.as_tuple()))

    def store(self, task_id, value):
        self.backend.store_result(task_id, value, "SUCCESS")

    def wait(self, task_id, timeout):
        """Say that it waits, then the value."""
        said = []

        def say():
            if not said:
                said.append(print(json.dumps("waits"), flush=True))

        return self.app.AsyncResult(task_id).get(timeout=timeout, interval=0.05, on_interval=say)

    def begin(self, group_id, members, body):
        """What is done before a header is sent; a member that is a list is a group."""
        results = [
            self.app.GroupResult(each[0] + "-group", [self.app.AsyncResult(one) for one in each])
            if isinstance(each, list)
            else self.app.AsyncResult(each)
            for each in members
        ]
        self.backend.apply_chord((group_id, results), self.app.signature(body))
        self.backend.set_chord_size(group_id, sum(len(each) if isinstance(each, list) else 1 for each in members))

    def report(self, group_id, task_id, index, value, body):
        request = self.context(id=task_id, group=group_id, group_index=index, chord=body, task="proj.member")
        if isinstance(value, dict):
            self.backend.mark_as_failure(task_id, ValueError(value["error"]), request=request)
        else:
            self.backend.mark_as_done(task_id, value, request=request)


def shown(value):
    return [type(value).__name__, list(value.args)] if isinstance(value, BaseException) else value


def main(settings):
    """Real Celery's side."""
    from celery import Celery  # noqa: TID251 - the peer itself
    from celery.app.task import Context  # noqa: TID251

    app = Celery("compat")
    app.conf.update(json.loads(settings))
    side = Side(app, Context)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(getattr(side, name)(*arguments)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
