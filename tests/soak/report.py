"""The report of a soak, for people and as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from tests.soak.accounting import MEANING
from tests.soak.driver import Soak
from tests.soak.usage import courses

SHOWN_MOST = 10


def failures(soak: Soak) -> dict[str, Any]:
    """All that must not be, what the memory says included."""
    found = dict(soak.failures)
    grown = [fault for course in courses(soak.measured.samples) for fault in course.faults]
    if grown:
        found["growth"] = grown
    return found


def as_json(soak: Soak) -> str:
    verdict, measured, wish = soak.verdict, soak.measured, soak.wish
    kinds = {}
    for history in soak.account.tasks.values():
        kind = history.sending.kind if history.sending else "?"
        kinds[kind] = kinds.get(kind, 0) + 1
    return json.dumps(
        {
            "seed": wish.seed,
            "seconds": wish.seconds,
            "rate": wish.rate,
            "counts": verdict.counts,
            "runs_per_task": verdict.runs_per_task,
            "kinds": kinds,
            "explained": verdict.explained,
            "troubles": soak.chaos.counts,
            "faults_struck": {name[6:]: count for name, count in measured.stats.items() if name.startswith("fault_")},
            "requests": measured.requests,
            "stats": measured.stats,
            "starts": {member.name: member.starts for member in (soak.steady, *soak.members)},
            "children": {member.name: len(member.children_seen) for member in (soak.steady, *soak.members)},
            "steady": [course.told() for course in courses(measured.samples)],
            "samples": [
                [round(sample.at, 1), sample.done, [list(vars(usage).values()) for usage in sample.usages]]
                for sample in measured.samples
            ],
            "stalls": [vars(stall) for stall in measured.stalls],
            "log_bytes": measured.log_bytes,
            "log_lines": measured.log_lines,
            "sent_seconds": measured.sent_seconds,
            "drain_seconds": measured.drain_seconds,
            "failures": failures(soak),
        },
        indent=1,
    )


def as_text(soak: Soak) -> str:
    return "\n".join(_paragraphs(soak))


def _paragraphs(soak: Soak) -> Iterator[str]:
    verdict, measured, wish = soak.verdict, soak.measured, soak.wish
    ids = max(1, verdict.counts["ids"])
    yield f"soak: seed {wish.seed}, {wish.seconds:g}s, {wish.rate:g} tasks/s asked; ended {time.strftime('%Y-%m-%d %H:%M:%S')}"
    yield f"tasks: {_row(verdict.counts)}"
    yield f"  lost: {len(verdict.lost)}; repeated for no reason: {len(verdict.unexplained)}"
    yield f"  {ids / max(1, measured.sent_seconds):.0f} sent a second; drained in {measured.drain_seconds:.0f}s"
    yield f"runs of a task: {_row({f'{runs}x': count for runs, count in sorted(verdict.runs_per_task.items())})}"
    yield f"runs beyond the first: {_row(verdict.explained)}"
    yield f"troubles: {_row(soak.chaos.counts)}"
    yield f"faults that struck: {_row({name[6:]: count for name, count in measured.stats.items() if name.startswith('fault_')})}"
    total = sum(measured.requests.values())
    yield f"requests: {total} ({total / ids:.2f} a task): {_row(measured.requests)}"
    starts = {
        member.name: f"{member.starts} starts, {len(member.children_seen)} children"
        for member in (soak.steady, *soak.members)
    }
    yield f"workers: {_row(starts)}; zombies: {len(measured.zombies)}"
    yield f"logs: {measured.log_bytes / 1e6:.1f} MB, {measured.log_lines} lines"
    yield "steady worker after its warm-up:"
    for course in courses(measured.samples):
        yield (
            f"  {course.role} {course.pid}: {course.first_mib:.1f} to {course.last_mib:.1f} MiB, "
            f"{course.slope_mib:+.2f} MiB for 200,000 tasks; descriptors {'/'.join(map(str, course.descriptors))} "
            f"in each quarter; threads {course.threads[0]} then {course.threads[1]}"
        )
    if measured.stalls:
        yield f"the machine stood still {len(measured.stalls)} times, {sum(s.end - s.begin for s in measured.stalls):.1f}s in all"
    wrong = failures(soak)
    if not wrong:
        yield "passed: nothing lost, every repeated run explained"
        return
    for name, found in wrong.items():
        meaning = MEANING.get(name, name)
        yield f"FAILED: {len(found)} {meaning}"
        if not isinstance(found, list):
            yield f"  {found}"
            continue
        for each in found[:SHOWN_MOST]:
            yield f"  {each}"
            if each in soak.account.tasks:
                yield from (f"    {line}" for line in soak.account.tasks[each].told(soak.origin))


def _row(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
