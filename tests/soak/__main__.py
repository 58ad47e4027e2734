"""``python -m tests.soak --seconds 300``: a soak, its report on standard output, and exit code 0 only if all is well."""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from pathlib import Path

from tests.soak.driver import Soak, Wish
from tests.soak.report import as_json, as_text, failures


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="how long tasks are sent and trouble is made")
    parser.add_argument("--rate", type=float, default=60.0, help="tasks a second")
    parser.add_argument("--tasks", type=int, default=0, help="go on until so many are done, twice --seconds at most")
    parser.add_argument(
        "--seed", type=int, help="repeats the traffic and the troubles of an earlier run, not their timing"
    )
    parser.add_argument("--every", type=float, default=4.0, help="mean seconds between troubles")
    parser.add_argument("--peer-rate", type=float, default=5.0, help="tasks a second that a real Celery sends")
    parser.add_argument(
        "--drain", type=float, default=420.0, help="seconds in which everything must be done with at the end"
    )
    parser.add_argument("--folder", type=Path, help="where lines, logs and the report are kept")
    given = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    folder = given.folder or Path(tempfile.mkdtemp(prefix="soak-"))
    peer = os.environ.get("PYQS_CELERY_PEER_PYTHON")
    print(f"seed {seed}; everything is kept in {folder}", flush=True)
    wish = Wish(
        given.seconds,
        given.rate,
        seed,
        folder.resolve(),
        every=given.every,
        peer=peer,
        peer_rate=given.peer_rate,
        drain_seconds=given.drain,
        tasks=given.tasks,
    )
    soak = Soak(wish)
    soak.run()
    (folder / "report.json").write_text(as_json(soak))
    print(as_text(soak), flush=True)
    return 1 if failures(soak) else 0


if __name__ == "__main__":
    sys.exit(main())
