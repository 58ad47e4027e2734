"""Workers with plenty to do: waiting messages, more queues, longer backlogs, more children, and memory."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from benchmarks.cases.setting import Measures, Outcome, Setting, per_1000
from benchmarks.processes import Memory
from benchmarks.sqs import Requests
from benchmarks.trial import Drained, Trial, Usage

IO_SECONDS = 0.05
FIRST_PORTION = 1000


def drain(trial: Trial, setting: Setting) -> Outcome:
    """Tasks that do nothing, waiting all at once, spread evenly over the queues; the worker is up and idle when they come."""
    return _drain(trial, setting, "noop", ())


def io(trial: Trial, setting: Setting) -> Outcome:
    """The same with tasks that wait for 50 ms."""
    return _drain(trial, setting, "sleep", (IO_SECONDS,))


def _drain(trial: Trial, setting: Setting, task: str, args: tuple[Any, ...]) -> Outcome:
    bodies = trial.bodies(setting.tasks, task, args)
    _start(trial, setting)
    with trial.usage() as usage:
        for place, queue in enumerate(trial.queues):
            share = setting.tasks // len(trial.queues) + (place < setting.tasks % len(trial.queues))
            trial.endpoint.put(queue, bodies, share)
        drained = trial.wait_drained(setting.tasks, setting.limit_seconds)
    return Outcome(_figures(drained, usage[0], trial.endpoint.requests()), not drained.complete)


def backlog(trial: Trial, setting: Setting) -> Outcome:
    """Tasks that do nothing, so many of them waiting at a time; with a large number only the first are measured."""
    waiting = setting.waiting or setting.tasks
    bodies = trial.bodies(min(waiting, FIRST_PORTION))
    _start(trial, setting)
    with trial.usage() as usage:
        done, complete = 0, True
        trial.endpoint.put("bench", bodies, waiting)
        started = time.perf_counter()
        while complete and done < setting.tasks:
            done += min(waiting, setting.tasks - done)
            complete = trial.wait_counted(done, started + setting.limit_seconds)
            if complete and done < setting.tasks:
                trial.endpoint.put("bench", bodies, min(waiting, setting.tasks - done))
        seconds, tasks, requests = time.perf_counter() - started, trial.count(), trial.endpoint.requests()
    trial.check_alive()
    return Outcome(_figures(Drained(tasks, seconds, complete), usage[0], requests), not complete)


def memory(trial: Trial, setting: Setting) -> Outcome:
    """The family's memory idle, after 1,000 tasks and after all of them."""
    bodies = trial.bodies(FIRST_PORTION)
    _start(trial, setting)
    measures = _memory("idle", trial.memory())
    complete, done = True, 0
    for name, upto in (("after_1000", min(FIRST_PORTION, setting.tasks)), ("after_all", setting.tasks)):
        trial.endpoint.put("bench", bodies, upto - done)
        complete = complete and trial.wait_drained(upto - done, setting.limit_seconds, before=done).complete
        done = trial.count()
        measures |= _memory(name, trial.memory())
    return Outcome({**measures, "tasks": done}, not complete)


def _memory(when: str, found: Memory) -> Measures:
    return {f"{name}_{when}": value for name, value in asdict(found).items()}


def _start(trial: Trial, setting: Setting) -> None:
    trial.endpoint.prepare(trial.queues)
    trial.endpoint.set_latency(setting.latency_ms)
    trial.start(setting.children)
    trial.endpoint.reset()


def _figures(drained: Drained, usage: Usage, requests: Requests) -> Measures:
    tasks = drained.tasks
    return {
        "tasks": tasks,
        "tasks_per_second": round(tasks / drained.seconds, 1),
        "cpu_per_1000": per_1000(usage.cpu_seconds, tasks),
        "requests_per_1000": per_1000(requests.total, tasks, 1),
        "redelivered": requests.stats.get("redelivered", 0),
        **{f"{action}_per_1000": per_1000(count, tasks, 1) for action, count in requests.by_action.items()},
    }
