"""Rows about messages that fail or that nobody understands."""

from __future__ import annotations

import base64
import json

from compat_tests.pains.rows import Seen, row
from compat_tests.pains.stage import Stage, within
from tests.support.waiting import until


@row(
    6,
    "Failed work never reaches the dead-letter queue",
    "Two queues with maxReceiveCount=3; a task on each that always fails, max_retries=2, 1 s apart. On the second queue the task "
    "has sqs_retry='native', which only we know.",
    cured="dead-lettered",
    seconds=40,
)
def dead_letters(stage: Stage) -> Seen:
    queues = ("resent", "native")
    for queue in queues:
        stage.sqs.create_with_dead_letters(queue, 3, VisibilityTimeout=5)
    stage.start(*queues, concurrency=2)
    stage.send("fail_with_retries", "resent", "resent")
    stage.send("fail_on_one_message", "native", "native")
    settled = within(lambda: all(stage.runs()[queue] >= 3 and not stage.sqs.left(queue) for queue in queues), 25)
    runs = {queue: stage.runs()[queue] for queue in queues}
    letters = {queue: stage.state(f"{queue}-dlq")["visible"] for queue in runs}
    sent = {queue: len(stage.happened("send", queue)) for queue in runs}
    left = {queue: stage.sqs.left(queue) for queue in runs}
    facts = {"runs": runs, "dead_letters": letters, "sent": sent, "left": left}
    said = (
        f"Runs {runs['resent']} and {runs['native']}; dead letters {letters['resent']} and {letters['native']}; "
        f"{sent['resent']} and {sent['native']} messages sent in all."
    )
    if letters == {"resent": 1, "native": 1} and runs == {"resent": 3, "native": 3} and sent["native"] == 1:
        return Seen("dead-lettered", said, facts)
    return Seen("gone" if settled else "otherwise", said, facts)


@row(
    7,
    "A new task name arrives at an old worker and is lost",
    "10 messages of a task that only the next deploy knows; the old worker has them for 4 s, then the new one starts and the old "
    "one stops. No redrive policy. Celery with its defaults.",
    cured="all run",
    seconds=45,
)
def unknown_task(stage: Stage) -> Seen:
    stage.sqs.create("work", VisibilityTimeout=60)
    old = stage.start("work", concurrency=2)
    for key in range(10):
        stage.send("new_in_this_deploy", "work", key)
    until(lambda: len(stage.happened("receive")) >= 10, "the old worker has received all")
    old.cpu_spent(4)
    deleted = len(stage.happened("delete"))
    stage.launch("work", concurrency=2, variables={"PAINS_DEPLOY": "new"})
    old.process.terminate()
    within(lambda: sum(stage.runs().values()) >= 10 or stage.sqs.left("work") == 0, 60)
    ran = len(stage.runs())
    facts = {"deleted_by_the_old": deleted, "ran": ran}
    return Seen(
        "all run" if (deleted, ran) == (0, 10) else "lost",
        f"The old worker deleted {deleted} of 10; the new one ran {ran}.",
        facts,
    )


ODD = (
    json.dumps({"properties": 1}),
    "not json {",
    "{}",
    "[1, 2, 3]",
    base64.b64encode(b'{"not": "a task"}').decode(),
    json.dumps({"Records": [{"eventSource": "aws:s3"}]}),
)


@row(
    8,
    "One odd body stops every consumer",
    f'{len(ODD)} bodies that are no task ({{"properties": 1}}, no JSON, an S3 event ...), then 5 good messages. '
    "Looked at for 20 s.",
    cured="works on, all kept",
    seconds=35,
)
def odd_bodies(stage: Stage) -> Seen:
    stage.sqs.create("work", VisibilityTimeout=60)
    worker = stage.start("work", concurrency=2)
    for body in ODD[1:]:
        stage.sqs.put("work", body)
    stage.sqs.put("work", ODD[0])
    within(lambda: not worker.alive, 3)
    for key in range(5):
        stage.send("note", "work", key)

    def kept() -> int:
        return stage.sqs.left("work") + stage.state("work-dlq").get("visible", 0)

    within(lambda: len(stage.runs()) == 5 and kept() == len(ODD), 20)
    good, waiting = len(stage.runs()), kept() - (5 - len(stage.runs()))
    facts = {"worker": worker.ending, "good_runs": good, "odd_kept": waiting}
    said = f"The worker {worker.ending}; {good} of 5 good ones ran; {waiting} of {len(ODD)} odd ones kept."
    works = "works on" if worker.alive and good == 5 else "takes no more"
    return Seen(f"{works}, {'all kept' if waiting == len(ODD) else 'some deleted'}", said, facts)
