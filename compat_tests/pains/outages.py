"""Rows about SQS that answers wrongly, late or never."""

from __future__ import annotations

import time

from compat_tests.pains.rows import Seen, row
from compat_tests.pains.stage import APP, Running, Stage, within
from tests.support.waiting import until

DEAF_SECONDS = 40
OUTAGE_SECONDS = 4


@row(
    1,
    "A worker is alive, logs nothing and takes no more messages",
    f"Two queues; one ReceiveMessage is never answered, then a task is sent to each queue. Looked at for {DEAF_SECONDS} s.",
    cured="goes on",
    seconds=60,
)
def unanswered_receive(stage: Stage) -> Seen:
    for queue in ("struck", "other"):
        stage.sqs.create(queue, VisibilityTimeout=300)
    worker = stage.start("struck", "other")
    stage.sqs.faults({"action": "ReceiveMessage", "queue": "struck", "kind": "timeout", "count": 1})
    stage.send("note", "struck", "wakes the open poll")
    until(lambda: stage.stats()["fault_timeout"], "a poll is not answered")
    before = stage.requests("ReceiveMessage", "struck")
    began = time.time()
    stage.send("note", "other", "other")
    stage.send("note", "struck", "struck")
    within(lambda: {"struck", "other"} <= set(stage.runs()), DEAF_SECONDS)
    took = {
        key: round(stage.first("run", key) - began, 1) if stage.runs()[key] else None for key in ("struck", "other")
    }
    polls = stage.requests("ReceiveMessage", "struck") - before
    facts = {"seconds": took, "polls_after": polls, "worker": worker.ending}
    if took["struck"] is None:
        return Seen(
            "stays deaf",
            f"No further receive in {DEAF_SECONDS} s on that queue; the process lives and logs nothing.",
            facts,
        )
    return Seen(
        "goes on",
        f"Same process; the struck queue's task ran after {took['struck']} s, the other's after {took['other']} s.",
        facts,
    )


KINDS = ("500", "503", "throttle", "403", "missing", "reset")


@row(
    2,
    "One error answer from AWS ends the worker",
    "Six workers, a queue each; every ReceiveMessage fails with 500, 503, throttle, 403, missing queue or reset for "
    f"{OUTAGE_SECONDS} s (wait_time_seconds=2). Then a task each, looked for 20 s.",
    cured="all work",
    seconds=50,
)
def error_answers(stage: Stage) -> Seen:
    stage.settings = {"broker_transport_options": {"wait_time_seconds": 2}}
    for kind in KINDS:
        stage.sqs.create(kind, VisibilityTimeout=300)
    workers = {kind: stage.launch(kind) for kind in KINDS}
    stage.wait_ready(*workers.values())
    for kind in KINDS:
        stage.sqs.wait_polled(kind, 60)
    stage.sqs.faults(
        *({"action": "ReceiveMessage", "queue": kind, "kind": kind, "seconds": OUTAGE_SECONDS} for kind in KINDS)
    )
    over = time.time() + OUTAGE_SECONDS
    until(lambda: all(stage.stats()[f"fault_{kind}"] for kind in KINDS), "each kind has struck", OUTAGE_SECONDS)
    until(lambda: time.time() > over, "the outage is over")
    for kind in KINDS:
        stage.send("note", kind, kind)

    def settled(kind: str) -> bool:
        return bool(stage.runs()[kind]) or not workers[kind].alive

    within(lambda: all(map(settled, KINDS)), 20)
    endings = {kind: worker.ending for kind, worker in workers.items()}
    after = {kind: round(stage.first("run", kind) - over, 1) for kind in KINDS if stage.runs()[kind]}
    facts = {"endings": endings, "first_task_seconds_after": after}
    works = [kind for kind in KINDS if kind in after and endings[kind] == "lives"]
    if works == list(KINDS):
        return Seen(
            "all work", f"All live; first task at most {max(after.values())} s after the end of the outage.", facts
        )
    ended = [kind for kind in KINDS if endings[kind] != "lives"]
    hang = [kind for kind in KINDS if kind not in ended and kind not in works]
    codes = " or ".join(sorted({endings[kind] for kind in ended}))
    said = f"The worker {codes} after {', '.join(ended)}" if ended else "No worker ends"
    said += f"; it hangs after {', '.join(hang)}." if hang else "."
    return Seen("none works" if not works else f"works after {', '.join(works)} only", said, facts)


@row(
    19,
    "A delete fails and the task repeats",
    "Three short tasks on a queue with a visibility timeout of 5 s; every delete is throttled for 12 s. "
    "Celery with its defaults.",
    cured="once",
    seconds=45,
)
def deletes_fail(stage: Stage) -> Seen:
    stage.sqs.create("work", VisibilityTimeout=5)
    worker = stage.start("work")
    stage.sqs.faults(
        *({"action": action, "kind": "throttle", "seconds": 12} for action in ("DeleteMessage", "DeleteMessageBatch"))
    )
    over = time.time() + 12
    for key in range(3):
        stage.send("note", "work", key)
    until(lambda: time.time() > over, "deletions work again")
    within(lambda: stage.sqs.left("work") == 0, 20)
    runs, left = sum(stage.runs().values()), stage.sqs.left("work")
    facts = {"runs": runs, "left": left, "worker": worker.ending}
    said = f"3 tasks ran {runs} times; the worker {worker.ending}; {left} messages left 20 s later."
    return Seen("once" if (runs, left) == (3, 0) and worker.alive else "repeats", said, facts)


DELAY_CALL = """
import sys, time
from {app} import note
began = time.monotonic()
try:
    note.apply_async(("k",), queue=sys.argv[1])
    print("returns", time.monotonic() - began)
except Exception as exc:
    print("raises", time.monotonic() - began)
"""
BLOCKED_SECONDS = 30


@row(
    33,
    "Publishing blocks the web request when SQS is away",
    f"SendMessage is not answered: by one queue never, by the other once. How long does delay() take? "
    f"Looked at for {BLOCKED_SECONDS} s.",
    cured="raises in time, or sends once",
    seconds=45,
)
def black_hole(stage: Stage) -> Seen:
    queues = ("never", "once")
    for queue in queues:
        stage.sqs.create(queue, VisibilityTimeout=300)
    hole = {"action": "SendMessage", "kind": "timeout"}
    stage.sqs.faults({**hole, "queue": "never"}, {**hole, "queue": "once", "count": 1})
    calls = {queue: stage.script(DELAY_CALL.format(app=APP), queue) for queue in queues}
    until(lambda: stage.stats()["fault_timeout"] >= 2, "both sends have met the black hole", 60)
    within(lambda: not any(call.alive for call in calls.values()), BLOCKED_SECONDS)
    answers = {queue: _answer(call) for queue, call in calls.items()}
    present = stage.state("once")["visible"]
    said = f"Never: delay() {answers['never']}. Once: {answers['once']}, {present} message there."
    facts = {"answers": answers, "present": present}
    if answers["never"].startswith("raises") and answers["once"].startswith("returns") and present == 1:
        seconds = float(answers["never"].split()[2])
        return Seen("raises in time, or sends once" if seconds < 11 else "raises late", said, facts)
    return Seen("blocks", said, facts)


def _answer(call: Running) -> str:
    blocked = call.alive
    call.kill()
    if blocked:
        return f"has not returned after {BLOCKED_SECONDS} s"
    what, seconds = call.out.split()
    return f"{what} after {float(seconds):.1f} s"
