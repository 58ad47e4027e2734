"""The committed record of one run, from which the table in the docs is made."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from compat_tests.pains.play import Played
from compat_tests.pains.rows import Seen

RECORD = Path(__file__).with_name("record.json")


def load() -> dict[str, Any]:
    """{"made": {"date", "celery", ...}, "rows": {"1": {"celery": {"kind", "said", "facts"}, "ours": ...}}}."""
    found: dict[str, Any] = json.loads(RECORD.read_text())
    return found


def seen(record: dict[str, Any]) -> Played:
    return {int(number): {side: Seen(**one) for side, one in both.items()} for number, both in record["rows"].items()}


def save(made: dict[str, str], played: Played) -> dict[str, Any]:
    rows = {str(number): {side: asdict(one) for side, one in sorted(both.items())} for number, both in played.items()}
    record = {"made": made, "rows": rows}
    RECORD.write_text(json.dumps(record, indent=1, ensure_ascii=False, sort_keys=False) + "\n")
    return record
