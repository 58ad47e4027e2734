"""Rows about time: tasks and delays longer than a lease, and how much a worker takes."""

from __future__ import annotations

import time

from compat_tests.pains.rows import Seen, row
from compat_tests.pains.stage import LATE, Stage, watch, within
from tests.support.waiting import until


@row(
    3,
    "A task longer than the visibility timeout runs twice, or for ever",
    "A 12 s task on a queue with a visibility timeout of 5 s, two workers, looked at for 25 s. Celery with acks_late.",
    cured="once",
    seconds=45,
)
def long_task(stage: Stage) -> Seen:
    stage.settings = {} if stage.is_ours else LATE
    stage.sqs.create("work", VisibilityTimeout=5)
    workers = [stage.launch("work") for _ in range(2)]
    stage.wait_ready(*workers)
    stage.send("work", "work", "long", 12)
    until(lambda: stage.runs()["long"], "the task starts")
    within(lambda: stage.runs("end")["long"] and stage.sqs.left("work") == 0, 25)
    starts, left = stage.runs()["long"], stage.sqs.left("work")
    facts = {"starts": starts, "left": left}
    if starts == 1 and left == 0:
        return Seen("once", "Started once, then deleted.", facts)
    return Seen(
        "several times", f"Started {starts} times in 25 s; the message is {'still there' if left else 'gone'}.", facts
    )


@row(
    4,
    "A countdown longer than the visibility timeout runs many times",
    "countdown=16 on a queue with a visibility timeout of 5 s, two workers. Celery with its defaults.",
    cured="once",
    seconds=40,
)
def countdown(stage: Stage) -> Seen:
    stage.sqs.create("work", VisibilityTimeout=5)
    workers = [stage.launch("work") for _ in range(2)]
    stage.wait_ready(*workers)
    began = time.time()
    stage.send("note", "work", "later", countdown=16)
    in_flight = watch(began + 14 - time.time(), lambda: stage.state("work")["inflight"])
    until(lambda: stage.runs()["later"], "the task runs", 20)
    within(lambda: stage.runs()["later"] > 1, 4)
    runs, late = stage.runs()["later"], stage.first("run", "later") - began - 16
    facts = {"runs": runs, "in_flight_while_waiting": in_flight, "late_seconds": round(late, 2)}
    said = f"Ran {runs} {'time' if runs == 1 else 'times'}, {late:.1f} s late; {in_flight} in flight while it waited."
    return Seen("once" if runs == 1 and -0.05 < late < 3 else "several times", said, facts)


@row(
    13,
    "Delays above 15 minutes",
    "countdown=3600 on a queue with a visibility timeout of 4 s and a worker: what becomes of the message in 14 s?",
    cured="waits in the queue",
    seconds=25,
)
def long_delay(stage: Stage) -> Seen:
    stage.sqs.create("work", VisibilityTimeout=4)
    stage.start("work", concurrency=2)
    stage.send("note", "work", "later", countdown=3600)
    in_flight = watch(14, lambda: stage.state("work")["inflight"])
    receives = len(stage.happened("receive"))
    delayed = stage.state("work")["delayed"]
    facts = {"receives": receives, "in_flight": in_flight, "delayed": delayed}
    if (receives, in_flight, delayed) == (0, 0, 1):
        return Seen(
            "waits in the queue",
            "Waits in SQS by DelaySeconds, in hops of 900 s; nothing received, nothing in flight.",
            facts,
        )
    return Seen(
        "is parked in the worker", f"Received {receives} times in 14 s, each copy parked in the worker's memory.", facts
    )


@row(
    31,
    "A backlog of ETAs fills memory and the in-flight limit",
    "400 messages of a Celery producer, due in 20 minutes, visible at once; a worker with one process. In flight after 20 s?",
    cured="holds none",
    seconds=35,
)
def eta_backlog(stage: Stage) -> Seen:
    stage.sqs.create("work", VisibilityTimeout=300)
    stage.start("work")
    stage.put_celery_messages("work", 400, countdown=1200)
    within(lambda: stage.state("work")["inflight"] >= 400 or stage.state("work")["delayed"] >= 400, 20)
    state = stage.state("work")
    held, waiting = state["inflight"], state["delayed"]
    facts = {"in_flight": held, "delayed": waiting}
    if held <= 12:
        return Seen("holds none", f"{waiting} wait in SQS by DelaySeconds; {held} in flight.", facts)
    return Seen("holds them all", f"{held} of 400 are in flight, held in the worker's memory.", facts)


@row(
    29,
    "visibility_timeout does not do what people think",
    "The queue was made with a timeout of 30 s; the application says visibility_timeout=6. The whole worker is killed in "
    "mid-task: when is the message visible again? Celery with acks_late.",
    cured="the option",
    seconds=50,
)
def option_against_attribute(stage: Stage) -> Seen:
    stage.settings = {"broker_transport_options": {"visibility_timeout": 6}, **({} if stage.is_ours else LATE)}
    stage.sqs.create("work", VisibilityTimeout=30)
    worker = stage.start("work")
    stage.send("work", "work", "killed", 60)
    until(lambda: stage.runs()["killed"], "the task starts")
    worker.kill()
    killed = time.time()
    hidden = within(lambda: stage.state("work")["visible"] == 1, 40)
    assert hidden is not None
    facts = {"hidden_seconds": round(time.time() - killed, 1)}
    if hidden < 10:
        return Seen("the option", f"Visible again after {hidden:.0f} s: the option rules, on any queue.", facts)
    return Seen(
        "the attribute",
        f"Visible again after {hidden:.0f} s: the option counts only when Celery creates the queue.",
        facts,
    )


@row(
    14,
    "Prefetch takes more than the processes can run, and other workers idle",
    "4 tasks of 3 s become visible at once to two idle workers of one process. Celery with its defaults.",
    cured="shared",
    seconds=30,
)
def prefetch(stage: Stage) -> Seen:
    stage.sqs.create("work", VisibilityTimeout=300)
    bodies = stage.written("work", "work", [[key, 3] for key in range(4)])
    workers = [stage.launch("work") for _ in range(2)]
    stage.wait_ready(*workers)
    until(lambda: stage.state("work")["waiters"] == 2, "both poll")
    stage.put_at_once("work", bodies)
    until(stage.runs, "a task starts")
    began = time.time()
    in_flight = watch(2, lambda: stage.state("work")["inflight"])
    until(lambda: sum(stage.runs("end").values()) == 4, "all end", 30)
    took = time.time() - began
    families = len({entry["pid"] for entry in stage.diary.entries()})
    facts = {"seconds": round(took, 1), "in_flight": in_flight, "processes_that_worked": families}
    said = f"{took:.1f} s for 2 x 3 s of work each; {in_flight} in flight; {families} of 2 processes worked."
    return Seen("shared" if families == 2 and in_flight <= 2 else "one holds all", said, facts)
