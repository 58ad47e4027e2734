"""Rows about stops, kills and recycled processes."""

from __future__ import annotations

import signal
import time
from itertools import pairwise

from compat_tests.pains.rows import Seen, row
from compat_tests.pains.stage import LATE, Stage, within
from tests.support.waiting import until


@row(
    5,
    "Stopping or deploying hides work",
    "20 tasks of 1.5 s, two processes, prefetch multiplier 5; SIGTERM when two have ended. When is every unstarted message "
    "visible? Then a second worker. Celery with early acks, its default.",
    cured="at once",
    seconds=45,
)
def deploy(stage: Stage) -> Seen:
    stage.sqs.create("work", VisibilityTimeout=120)
    for key in range(20):
        stage.send("work", "work", key, 1.5)
    worker = stage.launch("work", concurrency=2, arguments=("--prefetch-multiplier", "5"))
    stage.wait_ready(worker)
    until(lambda: sum(stage.runs("end").values()) >= 2, "two have ended")
    held = stage.state("work")["inflight"]
    worker.process.send_signal(signal.SIGTERM)
    began = time.monotonic()

    def all_visible() -> bool:
        return stage.state("work")["visible"] >= 20 - sum(stage.runs().values())

    hidden = within(all_visible, 60)
    until(lambda: not worker.alive, "the worker ends", 40)
    ended_after = time.monotonic() - began
    in_flight = stage.state("work")["inflight"]
    stage.start("work", concurrency=2)
    within(lambda: stage.sqs.left("work") == 0, 40)
    runs = sum(stage.runs().values())
    assert hidden is not None, stage.state("work")
    facts = {
        "in_flight_before": held,
        "hidden_seconds": round(hidden, 1),
        "exit_code": worker.process.returncode,
        "ended_after_seconds": round(ended_after, 1),
        "in_flight_after_exit": in_flight,
        "runs": runs,
    }
    said = (
        f"{held} in flight at the signal, all unstarted visible after {hidden:.1f} s; {in_flight} in flight after the exit; "
        f"{runs} runs of 20 tasks."
    )
    return Seen("at once" if hidden < 3 and in_flight == 0 and runs == 20 else "hidden for a while", said, facts)


ENDLESS = 8
"""More runs than any limit of ours allows."""


@row(
    16,
    "A task that kills its process is lost, or loops for ever",
    "A task that sends SIGKILL to its own process, and 5 others on the same worker; the first 8 runs. Celery once with its "
    "defaults and once with acks_late and reject_on_worker_lost; wait_time_seconds=2.",
    cured="five times, then dead-lettered",
    seconds=50,
)
def killer(stage: Stage) -> Seen:
    stage.settings = {"broker_transport_options": {"wait_time_seconds": 2}}
    plans = {"default": {}} if stage.is_ours else {"default": {}, "late": LATE}
    for name in plans:
        stage.sqs.create(name, VisibilityTimeout=60)
    workers = {name: stage.launch(name, concurrency=2, settings=settings) for name, settings in plans.items()}
    stage.wait_ready(*workers.values())
    for name in plans:
        stage.send("kill_own_process", name, name)
        for number in range(5):
            stage.send("note", name, f"{name} {number}")
    seen = _seen_here(stage) if stage.is_ours else _seen_of_celery(stage)
    others = sum(stage.runs()[f"{name} {number}"] for name in plans for number in range(5))
    seen.facts.update(others_ran=others, all_workers_live=all(worker.alive for worker in workers.values()))
    assert others == 5 * len(plans)
    return seen


def _seen_here(stage: Stage) -> Seen:
    within(lambda: stage.state("default-dlq").get("visible") and not stage.sqs.left("default"), 45)
    runs, letters = stage.runs()["default"], stage.state("default-dlq").get("visible", 0)
    gaps = _gaps([entry["at"] for entry in stage.diary.entries() if entry["key"] == "default"])
    kind = "five times, then dead-lettered" if (runs, letters) == (5, 1) else "otherwise"
    said = f"Ran {runs} times, {', '.join(map(str, gaps))} s apart; {letters} dead letter; the others ran once each."
    return Seen(kind, said, {"runs": runs, "dead_letters": letters, "gaps": gaps})


def _seen_of_celery(stage: Stage) -> Seen:
    took = within(lambda: stage.runs()["late"] >= ENDLESS, 90) or 90
    runs = {name: stage.runs()[name] for name in ("default", "late")}
    left = {name: stage.sqs.left(name) for name in runs}
    early = "lost" if (runs["default"], left["default"]) == (1, 0) else "kept"
    late = "no end" if runs["late"] >= ENDLESS and left["late"] else "ends"
    said = f"Defaults: ran {runs['default']} time and was {early}. Late: {runs['late']} runs in {took:.0f} s, without an end."
    return Seen(f"defaults: {early}, late: {late}", said, {"runs": runs, "left": left})


def _gaps(instants: list[float]) -> list[int]:
    return [round(later - earlier) for earlier, later in pairwise(instants)]


@row(
    41,
    "Memory and descriptors creep up; recycling loses tasks",
    "240 tasks, two processes replaced after every 20 tasks (max_tasks_per_child); runs, and descriptors open at a third and "
    "at the end.",
    cured="each once",
    seconds=40,
)
def recycling(stage: Stage) -> Seen:
    stage.sqs.create("work", VisibilityTimeout=300)
    worker = stage.start("work", concurrency=2, arguments=("--max-tasks-per-child", "20"))
    counted = []
    for start, number in ((0, 80), (80, 160)):
        for key in range(start, start + number):
            stage.send("note", "work", key)
        within(lambda n=start + number: len(stage.runs()) >= n and stage.sqs.left("work") == 0, 45)
        counted.append(worker.descriptors())
    runs = stage.runs()
    repeated = sum(runs.values()) - len(runs)
    facts = {"tasks_run": len(runs), "repeated": repeated, "descriptors": counted}
    said = (
        f"{len(runs)} of 240 ran, {repeated} repeated; {counted[0]} descriptors after 80 tasks, {counted[1]} after 240."
    )
    return Seen("each once" if (len(runs), repeated) == (240, 0) else "not each once", said, facts)


@row(
    40,
    "CPU at 100 %",
    "CPU time of the whole worker in 10 s idle, and in 10 s with its one process busy and more work waiting.",
    cured="quiet",
    seconds=35,
)
def cpu(stage: Stage) -> Seen:
    stage.sqs.create("work", VisibilityTimeout=300)
    worker = stage.start("work")
    until(lambda: worker.cpu_spent(1) < 0.1, "the start is over", 30)
    idle = worker.cpu_spent(10)
    for key in range(8):
        stage.send("work", "work", key, 60)
    until(stage.runs, "a task starts")
    until(lambda: worker.cpu_spent(1) < 0.1, "all that will be fetched is fetched", 30)
    busy = worker.cpu_spent(10)
    facts = {"idle_cpu_seconds": round(idle, 2), "saturated_cpu_seconds": round(busy, 2)}
    said = f"{idle:.2f} s idle, {busy:.2f} s saturated."
    return Seen("quiet" if max(idle, busy) < 0.5 else "busy", said, facts)
