"""``python -m compat_tests.pains`` plays all rows on both sides and writes the record and the table in the docs.

``PYQS_CELERY_PEER_PYTHON`` names the interpreter that has Celery. With numbers, only these rows are played anew; the
others are kept from the record.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path

from compat_tests.pains import record
from compat_tests.pains.play import play, versions
from compat_tests.pains.rows import ROWS
from compat_tests.pains.table import DOCS, with_table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m compat_tests.pains", description=__doc__)
    parser.add_argument("rows", nargs="*", type=int, help="row numbers; default: all")
    wanted = parser.parse_args().rows or list(ROWS)
    peer = os.environ.get("PYQS_CELERY_PEER_PYTHON") or sys.executable
    with tempfile.TemporaryDirectory(prefix="pains-") as folder:
        played = play(peer, Path(folder), wanted)
    for number, both in played.items():
        for side, seen in both.items():
            print(f"{number:2} {side:6} {seen.kind}: {seen.said}")
    broken = [number for number, both in played.items() if any(seen.kind == "broke" for seen in both.values())]
    if broken:
        print(f"broken scenarios, nothing is written: {broken}", file=sys.stderr)
        return 1
    kept = record.seen(record.load()) if record.RECORD.exists() else {}
    made = {
        "date": datetime.now(timezone.utc).date().isoformat(),
        **versions(peer),
        "python": platform.python_version(),
    }
    written = record.save(made, {number: one for number, one in sorted({**kept, **played}.items()) if number in ROWS})
    DOCS.write_text(with_table(DOCS.read_text(), written))
    uncured = [number for number, both in played.items() if both["ours"].kind != ROWS[number].cured]
    print(f"rows without their cure: {uncured}" if uncured else "every row has its cure")
    return bool(uncured)


if __name__ == "__main__":
    raise SystemExit(main())
