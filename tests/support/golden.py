"""The captured messages: what real producers wrote, and what a decoder must find in each."""

from __future__ import annotations

import gzip
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "compat_tests" / "golden"
CERTIFICATE = str(FOLDER / "support" / "signer.cert.pem")
sys.path.insert(0, str(FOLDER / "support"))  # pickles name golden_types


@cache
def captured() -> dict[str, dict[str, Any]]:
    """Every captured message, by name."""
    with gzip.open(FOLDER / "messages.jsonl.gz", "rt", encoding="utf-8") as lines:
        return {found["name"]: found for found in map(json.loads, lines)}


def names(*outcomes: str) -> list[str]:
    """Names of messages whose expected outcome is one of these."""
    return [name for name, found in captured().items() if found["expected"]["outcome"] in outcomes]
