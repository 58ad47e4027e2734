"""The command: ``python -m benchmarks`` measures, ``python -m benchmarks report RECORD`` makes the tables again."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import machine, plan, registry, rows, table
from benchmarks.environments import VirtualEnvironments
from benchmarks.runner import Runner

BEGIN = ".. the tables begin (python -m benchmarks report RECORD --into THIS FILE)"
END = ".. the tables end"
DEFAULT_FOLDER = Path(tempfile.gettempdir()) / "pyqs-celery-benchmarks"


def main(arguments: Sequence[str]) -> int:
    """Run what the command line says; the exit code is 1 if any trial had an error."""
    if arguments[:1] == ["report"]:
        return _report(arguments[1:])
    wanted = _parser().parse_args(arguments)
    try:
        peers = _with_raw(wanted.peers)
        chosen = plan.choose(
            wanted.cases, quick=wanted.quick, rounds=wanted.rounds, tasks=wanted.tasks, limit_seconds=wanted.limit
        )
    except ValueError as exc:
        _parser().error(str(exc))
    environments = VirtualEnvironments(wanted.venvs.absolute())
    environments.install(peers, again=wanted.setup)
    if wanted.setup:
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what runs is ended
    store = wanted.venvs.absolute() / "bodies"
    store.mkdir(exist_ok=True)
    record_path = wanted.output.with_suffix(".jsonl")
    with record_path.open("w") as file:
        record = rows.Record(file)
        about = machine.heading(list(arguments), environments.versions(peers))
        record.write(about)
        found = _play(Runner(peers, environments, store), chosen, record, about)
    wanted.output.write_text(table.markdown(*rows.read(record_path)))
    print(f"{wanted.output} and {record_path}")
    return int(any(row.error for row in found))


def _play(runner: Runner, chosen: list[plan.Planned], record: rows.Record, about: rows.Heading) -> list[rows.Row]:
    started = time.monotonic()
    found: list[rows.Row] = []
    finished = False
    try:
        for row in runner.play(chosen):
            record.write(row)
            found.append(row)
            _tell(row, time.monotonic() - started)
        finished = True
    finally:
        seconds = time.monotonic() - started
        record.write(replace(about, load_end=list(os.getloadavg()), seconds=seconds, finished=finished))
    return found


def _tell(row: rows.Row, seconds: float) -> None:
    shown = row.error or row.note or ", ".join(f"{name} {value}" for name, value in list(row.measures.items())[:4])
    mark = " CUT OFF" if row.cut_off else ""
    print(f"{seconds:6.0f} s  {row.case}, {row.variant}, round {row.round}, {row.peer}: {shown}{mark}", file=sys.stderr)


def _with_raw(names: Iterable[str]) -> list[registry.Peer]:
    """The peers of these names, and raw before them: ratios need it, and so does the latency case."""
    wanted = dict.fromkeys([registry.RAW, *names])
    return [registry.find(name) for name in wanted]


def _report(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks report", description="Tables from a record.")
    parser.add_argument("record", type=Path, help="the .jsonl of a run")
    parser.add_argument("--into", type=Path, help="put them into this reStructuredText page, between its two marks")
    wanted = parser.parse_args(arguments)
    heading, found = rows.read(wanted.record)
    if wanted.into is None:
        print(table.markdown(heading, found))
        return 0
    wanted.into.write_text(put_between(wanted.into.read_text(), table.restructured(heading, found)))
    return 0


def put_between(page: str, text: str) -> str:
    """The page with ``text`` between its two marks. Raises ValueError if it has not both."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks a mark: {BEGIN!r}, {END!r}")
    return f"{before}{begin}\n\n{text}\n{end}{after}"


def _names(text: str) -> list[str]:
    return [name for name in text.replace(",", " ").split() if name]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure pyqs-celery beside others on one endpoint; see docs/performance.rst.",
        epilog="python -m benchmarks report RECORD makes the tables of an earlier run again.",
    )
    peers, cases = [peer.name for peer in registry.PEERS], list(plan.CASE_NAMES)
    parser.add_argument("--peers", type=_names, default=peers, help=f"default: {','.join(peers)}; raw is always there")
    parser.add_argument("--cases", type=_names, default=cases, help=f"default: {','.join(cases)}")
    parser.add_argument("--rounds", type=int, help="instead of each case's own number")
    parser.add_argument("--tasks", type=int, help="instead of each case's own number")
    parser.add_argument("--limit", type=float, help="seconds after which a trial is cut off, and marked so")
    parser.add_argument("--quick", action="store_true", help=f"one round, at most {plan.QUICK_TASKS} tasks")
    parser.add_argument(
        "--output", type=Path, default=Path("benchmarks.md"), help="the table; the record goes beside it"
    )
    parser.add_argument("--venvs", type=Path, default=DEFAULT_FOLDER, help="where the virtual environments are kept")
    parser.add_argument(
        "--setup", action="store_true", help="install the virtual environments (again), and nothing else"
    )
    return parser
