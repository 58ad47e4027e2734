"""Rows about queues: order, groups, number and names."""

from __future__ import annotations

import time
from typing import Any

from compat_tests.pains.rows import Seen, row
from compat_tests.pains.stage import LATE, Stage, within
from tests.support.waiting import until

GROUPS, STEPS = 3, 4


@row(
    17,
    "FIFO: lost order, useless deduplication",
    f"{GROUPS} groups of {STEPS} tasks; in each the first asks once for a retry. Then one task is sent twice under the "
    "same task id. Celery with acks_late and one process; MessageGroupId is given by the call on both sides.",
    cured="order kept, repeat dropped",
    seconds=40,
)
def fifo(stage: Stage) -> Seen:
    stage.settings = {} if stage.is_ours else LATE
    stage.sqs.create("work.fifo", VisibilityTimeout=30)
    for step in range(STEPS):
        for group in range(GROUPS):
            stage.send("fail_once", "work.fifo", [group, step], step == 0, MessageGroupId=f"g{group}")
    for _ in range(2):
        stage.send("fail_once", "work.fifo", "sent twice", False, MessageGroupId="twice", task_id="the-same-id")
    stage.start("work.fifo")
    within(lambda: _done(stage) >= GROUPS * STEPS + 1 and stage.sqs.left("work.fifo") == 0, 40)
    done = [entry["key"] for entry in stage.diary.entries() if entry["event"] == "done"]
    orders = {group: [key[1] for key in done if isinstance(key, list) and key[0] == group] for group in range(GROUPS)}
    in_order = sum(order == list(range(STEPS)) for order in orders.values())
    twice = done.count("sent twice")
    facts = {"orders": orders, "runs_of_the_repeat": twice, "left": stage.sqs.left("work.fifo")}
    said = f"{in_order} of {GROUPS} groups ended in order (the first: {orders[0]}); the repeated id ran {twice} times."
    order = "order kept" if in_order == GROUPS else "order lost"
    return Seen(f"{order}, repeat {'dropped' if twice == 1 else 'run'}", said, facts)


def _done(stage: Stage) -> int:
    return sum(1 for entry in stage.diary.entries() if entry["event"] == "done")


MANY = 25


@row(
    20,
    "Many queues on one worker: seconds of latency",
    f"{MANY} idle queues on one worker. Open polls, and how long each of 4 messages waits, sent one after another to queues "
    "that have no open poll where there are such.",
    cured="a poll for each",
    seconds=60,
)
def many_queues(stage: Stage) -> Seen:
    names = [f"q{number:02}" for number in range(MANY)]
    for name in names:
        stage.sqs.create(name, VisibilityTimeout=300)
    stage.wait_ready(stage.launch(*names, concurrency=2))

    def polled() -> list[str]:
        return [name for name in names if stage.sqs.is_polled(name)]

    within(lambda: len(polled()) == MANY, 15)
    opened = len(polled())
    waited = []
    for key in range(4):
        unheard = sorted(set(names) - set(polled())) or names
        sent = time.time()
        stage.send("note", unheard[-1], key)
        until(lambda key=key: stage.runs()[key], "the task runs", 60)
        waited.append(stage.first("run", key) - sent)
    waited.sort()
    facts = {"open_polls": opened, "seconds": [round(each, 2) for each in waited]}
    said = f"{opened} open polls; the messages waited {waited[0]:.1f} to {waited[-1]:.1f} s."
    return Seen("a poll for each" if opened == MANY and waited[-1] < 3 else "ten polls for all", said, facts)


@row(
    42,
    "Noisy tenants: the message group is lost",
    "A task with MessageGroupId on a standard queue retries itself on to another queue: which group has the new message?",
    cured="kept",
    seconds=20,
)
def fair_queues(stage: Stage) -> Seen:
    for queue in ("work", "seen"):
        stage.sqs.create(queue, VisibilityTimeout=300)
    stage.start("work")
    stage.send("move_on", "work", "k", "seen", MessageGroupId="tenant-7")
    until(lambda: stage.state("seen")["visible"], "the retry is sent")
    group = _group(stage, "seen")
    return Seen("kept" if group == "tenant-7" else "lost", f"The retry's MessageGroupId: {group}.", {"group": group})


def _group(stage: Stage, queue: str) -> Any:
    answer = stage.sqs.client._client().receive_message(
        QueueUrl=stage.sqs.url(queue), MessageSystemAttributeNames=["All"], WaitTimeSeconds=5
    )
    return answer["Messages"][0]["Attributes"].get("MessageGroupId")


@row(
    43,
    "Queue wildcards",
    "Queues email-a and email-b; a worker with -Q 'email-*'; then email-c is made. We look for new queues every 2 s here "
    "(default 30).",
    cured="all polled, none created",
    seconds=35,
)
def wildcards(stage: Stage) -> Seen:
    stage.settings = {"worker_queue_refresh_seconds": 2} if stage.is_ours else {}
    names = ["email-a", "email-b"]
    for name in names:
        stage.sqs.create(name, VisibilityTimeout=300)
    worker = stage.launch("email-*")
    stage.wait_ready(worker)
    within(lambda: all(map(stage.sqs.is_polled, names)), 5)
    stage.sqs.create("email-c", VisibilityTimeout=300)
    names.append("email-c")
    within(lambda: all(map(stage.sqs.is_polled, names)), 10)
    polled = [name for name in names if stage.sqs.is_polled(name)]
    created = sorted(set(stage.sqs.ask("state")) - set(names))
    said = f"{len(polled)} of {len(names)} polled; queues created: {', '.join(created) or 'none'}."
    kind = f"{'all' if len(polled) == len(names) else 'not all'} polled, {'none' if not created else 'a literal one'} created"
    return Seen(kind, said, {"polled": polled, "created": created})


@row(
    18,
    "The same delivery is processed twice",
    "SQS delivers a quarter of the messages a second time, while they are in flight or just after their deletion; 80 tasks, two "
    "workers, a result store. Celery with worker_deduplicate_successful_tasks and acks_late; we with sqs_deduplicate='open'.",
    cured="once each",
    seconds=30,
)
def duplicates(stage: Stage) -> Seen:
    results = stage.folder / "results"
    results.mkdir()
    wanted = {"sqs_deduplicate": "open"} if stage.is_ours else {"worker_deduplicate_successful_tasks": True, **LATE}
    stage.settings = {"result_backend": results.as_uri(), "task_ignore_result": False, **wanted}
    stage.sqs.create("work", VisibilityTimeout=60)
    workers = [stage.launch("work", concurrency=2) for _ in range(2)]
    stage.wait_ready(*workers)
    stage.sqs.ask("config", duplicates=0.25)
    for key in range(80):
        stage.send("note", "work", key)
    within(lambda: len(stage.runs()) == 80 and not stage.sqs.left("work"), 30)
    runs, repeated = len(stage.runs()), sum(stage.runs().values()) - len(stage.runs())
    delivered = len(stage.happened("receive"))
    facts = {"tasks_run": runs, "repeated_runs": repeated, "deliveries": delivered}
    said = f"{delivered} deliveries of 80 messages: {runs} tasks ran, {repeated} of them again."
    return Seen("once each" if (runs, repeated) == (80, 0) else "some twice", said, facts)
