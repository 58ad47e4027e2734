"""A run goes on past whoever fails, marks what was cut off, and leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.cases.setting import Setting
from benchmarks.environments import ThisInterpreter
from benchmarks.plan import IDLE, Planned
from benchmarks.registry import RAW, find
from benchmarks.runner import Runner
from tests.support.embedded import ROOT
from tests.support.proc import every_pid, state_of
from tests.support.waiting import until

pytestmark = pytest.mark.processes

HERE = Path(__file__).parent
BROKEN = replace(find(RAW), name="broken", command=lambda *_: [sys.executable, "-c", "raise SystemExit('no, never')"])


def play(folder, peers, *plan):
    return list(Runner(peers, ThisInterpreter(), folder).play(list(plan)))


def started_for(folder):
    """Living processes that have this folder in their environment."""
    found = []
    for pid in every_pid():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if f"TMPDIR={folder}".encode() in environment and state_of(pid) not in ("Z", ""):
            found.append(pid)
    return found


def test_peers_take_turns_in_each_round_and_one_that_fails_does_not_end_the_run(tmp_path):
    planned = Planned("drain", "small", Setting(tasks=20, children=1), rounds=2)

    found = play(tmp_path, [BROKEN, find(RAW)], planned)

    assert [(row.round, row.peer) for row in found] == [(1, "broken"), (1, "raw"), (2, "broken"), (2, "raw")]
    assert [row.measures.get("tasks") for row in found] == [None, 20, None, 20]
    assert "no, never" in found[0].error
    assert found[1].error is None


def test_a_worker_that_fails_is_no_idle_worker(tmp_path):
    planned = Planned(IDLE, "1 queue", Setting(seconds=0.1))

    by_peer = {row.peer: row for row in play(tmp_path, [BROKEN, find(RAW)], planned)}

    assert "no, never" in by_peer["broken"].error
    assert by_peer["raw"].measures["open_polls"] == 1


def test_what_the_limit_ends_is_marked_and_counts_only_what_ran(tmp_path):
    planned = Planned("io", "too long", Setting(tasks=500, children=1, limit_seconds=0.5))

    (row,) = play(tmp_path, [find(RAW)], planned)

    assert row.cut_off
    assert row.error is None
    assert row.measures["tasks"] < 500


def test_whoever_lacks_something_is_not_started(tmp_path):
    lacking = replace(BROKEN, lacks={"bulk": "no bulk API"})

    (row,) = play(tmp_path, [lacking], Planned("bulk", "any", Setting()))

    assert (row.note, row.error, row.measures) == ("no bulk API", None, {})


def test_an_interrupt_ends_everything_that_was_started(tmp_path):
    run = subprocess.Popen(
        [sys.executable, str(HERE / "interrupted.py"), str(tmp_path)],
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        until(lambda: len(started_for(tmp_path)) >= 4, "the run, its endpoint and two workers are there")
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=60)
    finally:
        run.kill()
        run.wait()

    assert b"KeyboardInterrupt" in errors
    assert started_for(tmp_path) == []
    assert not list(tmp_path.glob("benchmark-*")), "and no folder"
