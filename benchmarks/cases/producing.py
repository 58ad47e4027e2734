"""Producers: one call after another, many at once, the import, and a process that begins with a send."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.cases.setting import Measures, Outcome, Setting, per_1000
from benchmarks.trial import Trial, TrialError

STARTS = 3
IMPORTS = 5
_IMPORT = """
import json, sys, time
wall, cpu = time.perf_counter(), time.process_time()
{statement}
cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
print(json.dumps({{"cpu": cpu * 1000, "wall": wall * 1000, "modules": len(sys.modules),
                  "loads": [name for name in ("boto3", "botocore", "kombu") if name in sys.modules]}}))
"""


def produce(trial: Trial, setting: Setting) -> Outcome:
    """``.delay()`` and its like, one by one; the first send is done before the clock starts."""
    account, requests = _send(trial, setting, "each")
    sent = int(account["sent"])
    return Outcome(
        {
            "p50_ms": _rounded(account["p50_ms"]),
            "p99_ms": _rounded(account["p99_ms"]),
            "cpu_per_1000": per_1000(account["cpu_seconds"], sent),
            **requests,
            "sent": sent,
        },
        cut_off=sent < setting.tasks,
    )


def bulk(trial: Trial, setting: Setting) -> Outcome:
    """All in one call of the bulk API; the first send is done before, and not counted."""
    account, requests = _send(trial, setting, "many")
    sent = int(account["sent"])
    return Outcome(
        {
            "cpu_per_1000": per_1000(account["cpu_seconds"], sent),
            "seconds": _rounded(account["seconds"]),
            **requests,
            "sent": sent,
        }
    )


def _send(trial: Trial, setting: Setting, mode: str) -> tuple[dict[str, Any], Measures]:
    trial.endpoint.prepare(trial.queues)
    trial.endpoint.set_latency(setting.latency_ms)
    trial.endpoint.reset()
    account = trial.produce(mode, setting.tasks, "--warm", "--limit", str(setting.limit_seconds))
    if account["errors"]:
        raise TrialError("; ".join(account["errors"]))
    requests = trial.endpoint.requests()
    actions = ", ".join(f"{action} {count}" for action, count in sorted(requests.by_action.items()))
    # Of the first send only the request itself is left out: what it looked up is needed once by everybody.
    return account, {"requests": requests.total - 1, "actions": actions}


def first(trial: Trial, setting: Setting) -> Outcome:
    """A process that begins: from its start until SQS has its first message."""
    found = []
    for _ in range(STARTS):
        trial.endpoint.prepare(trial.queues)
        trial.endpoint.set_latency(setting.latency_ms)
        found.append(float(trial.produce("each", 0, "--warm")["first_ms"]))
    return Outcome({"first_ms": round(statistics.median(found), 1)})


def importing(trial: Trial, _: Setting) -> Outcome:
    """The first line of a producer's module, in fresh processes; the first of them warms the disk's cache."""
    code = _IMPORT.format(statement=trial.peer.import_statement)
    found = [trial.run_python("-c", code) for _ in range(IMPORTS + 1)][1:]
    return Outcome(
        {
            "cpu_ms": round(statistics.median(each["cpu"] for each in found), 1),
            "wall_ms": round(statistics.median(each["wall"] for each in found), 1),
            "modules": found[0]["modules"],
            "loads": ", ".join(found[0]["loads"]) or "none",
        }
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
