"""Workers with little to do, or nothing: what they ask while idle, and how soon a task starts."""

from __future__ import annotations

import statistics
import time

from benchmarks import processes
from benchmarks.cases.setting import Outcome, Setting
from benchmarks.registry import RAW
from benchmarks.trial import ASK_EVERY_SECONDS, Trial, TrialError

HOUR_SECONDS = 3600
REST_SECONDS = 1.0
INTERVAL_SECONDS = 0.1
PATIENCE_SECONDS = 20.0
FLOOR_QUEUE = "floor"
FLOOR_REQUESTS = 20


class IdleWatch:
    """A worker with nothing to do. Many can be watched at a time, since none does much: ``begin`` all, wait, ``finish`` all."""

    def __init__(self, trial: Trial, setting: Setting) -> None:
        self.trial = trial
        self.setting = setting
        self._since = 0.0
        self._cpu_seconds = 0.0

    def begin(self) -> None:
        """Start the worker and, once it is at rest, count. The floor is one process with one open poll for each queue."""
        trial = self.trial
        trial.endpoint.prepare(trial.queues)
        trial.start(1 if trial.peer.name == RAW else self.setting.children)
        time.sleep(REST_SECONDS)
        self._cpu_seconds = processes.processor_seconds(trial.pids)
        self._since = time.perf_counter()
        trial.endpoint.reset()

    def finish(self) -> Outcome:
        """What it asked since, for an hour."""
        trial = self.trial
        trial.check_alive()
        seconds, requests = time.perf_counter() - self._since, trial.endpoint.requests()
        cpu_seconds = processes.processor_seconds(trial.pids) - self._cpu_seconds
        return Outcome(
            {
                "requests_per_hour": round(requests.total * HOUR_SECONDS / seconds),
                "requests_per_hour_per_queue": round(requests.total * HOUR_SECONDS / seconds / len(trial.queues)),
                "cpu_seconds_per_hour": round(cpu_seconds * HOUR_SECONDS / seconds, 1),
                "open_polls": trial.endpoint.open_polls(),
                "watched_seconds": round(seconds, 1),
                "actions": ", ".join(f"{action} {count}" for action, count in sorted(requests.by_action.items())),
            }
        )


def latency(trial: Trial, setting: Setting) -> Outcome:
    """From the producer's call to the task's first line, at ten tasks a second, the queues in turn.

    Also in multiples of what one request takes: the median of raw single sends to the same endpoint just before. The first to
    each queue is not counted: it makes the producer's client and looks up a URL, which ``first`` is about.
    """
    trial.endpoint.prepare([*trial.queues, FLOOR_QUEUE])
    trial.endpoint.set_latency(setting.latency_ms)
    request_ms = trial.raw_request_ms(FLOOR_QUEUE, FLOOR_REQUESTS)
    trial.start(setting.children)
    time.sleep(REST_SECONDS)
    first = len(trial.queues)
    number = first + setting.tasks
    expected = number * (INTERVAL_SECONDS + 1)
    trial.produce("stamped", number, "--task", "stamp", "--interval", str(INTERVAL_SECONDS), seconds=expected)
    deadline = time.perf_counter() + PATIENCE_SECONDS
    while len(trial.delays()) < number and time.perf_counter() < deadline:
        time.sleep(ASK_EVERY_SECONDS)
    delays = sorted(each * 1000 for each in trial.delays()[first:])
    if not delays:
        raise TrialError("no task ran")
    p50, p99 = statistics.median(delays), delays[min(len(delays) - 1, int(len(delays) * 0.99))]
    return Outcome(
        {
            "request_ms": round(request_ms, 2),
            "p50_ms": round(p50, 1),
            "p99_ms": round(p99, 1),
            "p50_requests": round(p50 / request_ms, 2),
            "p99_requests": round(p99 / request_ms, 2),
            "tasks": len(delays),
        },
        cut_off=len(delays) < setting.tasks,
    )
