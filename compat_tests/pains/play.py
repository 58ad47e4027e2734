"""Play rows on both sides, many at the same time: most of their time they wait."""

from __future__ import annotations

import os
import subprocess
import time
import traceback
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from compat_tests.pains import leases, letters, outages, queues, stops, surroundings  # noqa: F401 - they fill the table
from compat_tests.pains.rows import ROWS, Row, Seen
from compat_tests.pains.stage import Sender, Side, Stage, celery, ours

AT_ONCE = int(os.environ.get("PAINS_AT_ONCE", "8"))
Played = dict[int, dict[str, Seen]]


def play(
    peer: str, folder: Path, numbers: Iterable[int] | None = None, sides: Iterable[str] = ("celery", "ours")
) -> Played:
    """What each side did in each row. ``peer`` is the interpreter that has Celery. A scenario that breaks is ``kind`` "broke"."""
    chosen = sorted((ROWS[number] for number in numbers or ROWS), key=lambda each: -each.seconds)
    known = {"celery": celery(peer), "ours": ours()}
    senders = {name: Sender(side, folder) for name, side in known.items()}
    jobs = [(each, known[side]) for each in chosen for side in sides]
    try:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            seen = list(threads.map(lambda job: _play_one(*job, folder, senders), jobs))
    finally:
        for sender in senders.values():
            sender.close()
    played: Played = {}
    for (each, side), one in zip(jobs, seen, strict=True):
        played.setdefault(each.number, {})[side.name] = one
    return dict(sorted(played.items()))


def _play_one(each: Row, side: Side, folder: Path, senders: dict[str, Sender]) -> Seen:
    stage = Stage(side, folder / f"{each.number:02}-{side.name}", senders)
    began = time.monotonic()
    try:
        seen = each.play(stage)
    except Exception:  # noqa: BLE001 - told with the row, after the other rows
        seen = Seen("broke", traceback.format_exc()[-3000:], {})
    finally:
        stage.close()
    (stage.folder / "seconds").write_text(f"{time.monotonic() - began:.1f}")
    return seen


def versions(peer: str) -> dict[str, str]:
    """The peer's packages."""
    asked = "import importlib.metadata as m; print(*(m.version(n) for n in ('celery','kombu','pycurl','botocore')))"
    found = subprocess.run([peer, "-c", asked], capture_output=True, text=True, check=True).stdout.split()
    return dict(zip(("celery", "kombu", "pycurl", "botocore"), found, strict=True))
