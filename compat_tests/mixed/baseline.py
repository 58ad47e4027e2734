"""``python -m compat_tests.mixed.baseline PEER_PYTHON [FLEET ...]``: the table with real Celery on both sides.

What it gives is the truth that the mixed fleets are held against. Prints every difference from the table, and how long
each fleet took; ``--show`` prints all answers.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from compat_tests.mixed import asking
from compat_tests.mixed.fleets import BATCHES, FLEETS, Answers, Machine, peer_version, roles, run_batch
from compat_tests.mixed.servers import Servers
from compat_tests.mixed.table import BEHAVIOURS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", help="the interpreter that has Celery")
    parser.add_argument("fleet", nargs="*", help=f"which fleets; all are {', '.join(FLEETS)}")
    parser.add_argument("--mixed", action="store_true", help="play our role with pyqs-celery instead")
    parser.add_argument("--show", action="store_true", help="print every answer")
    parser.add_argument("--keep", help="a folder for the logs")
    given = parser.parse_args()
    version = peer_version(given.peer)
    servers, differences = Servers(), 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(given.keep or temporary).resolve()
        machine = Machine(servers.sqs, folder, roles(given.peer, celery_alone=not given.mixed), version)
        try:
            for batch in [[FLEETS[name]] for name in given.fleet] or BATCHES:
                began = time.monotonic()
                found = run_batch(machine, batch, servers)
                print(f"{', '.join(found)}: {time.monotonic() - began:.1f}s", file=sys.stderr)
                for fleet in batch:
                    print(f"  {fleet.name} left on queues: {machine.left_on_queues[fleet.name]}", file=sys.stderr)
                    for run, answers in found[fleet.name].items():
                        differences += report(run, answers, version, fleet.store, show=given.show, mixed=given.mixed)
        finally:
            servers.close()
    print(
        f"{differences} differences from the table, {len(machine.left_behind)} processes left behind", file=sys.stderr
    )
    return 1 if differences or machine.left_behind else 0


def report(run: str, answers: Answers, version: tuple[int, ...], store: str, *, show: bool, mixed: bool) -> int:
    number = 0
    print(f"  {run}: {len(answers.sent)} behaviours", file=sys.stderr)
    (one, other) = answers.read.values()
    for name, entry in answers.sent.items():
        known = BEHAVIOURS[name]
        expected = known.accepts(version, store) if mixed else [known.expects(version, store)]
        if show or entry["seconds"] > 3:
            print(f"  {run}[{name}] {entry['seconds']}s {json.dumps(entry['answer'], ensure_ascii=False)}")
        if entry["answer"] not in expected:
            number += 1
            shown = entry["answer"].get("broken") or json.dumps(entry["answer"], ensure_ascii=False)
            print(f"- {run}[{name}]\n    expected {json.dumps(expected[0], ensure_ascii=False)}\n    got      {shown}")
        found = asking.differences(one.get(name), other.get(name)) or [
            reading["broken"] for reading in (one.get(name),) if reading and "broken" in reading
        ]
        if found:
            number += 1
            print(f"- {run}[{name}] is read differently: " + "; ".join(found))
    return number


if __name__ == "__main__":
    sys.exit(main())
