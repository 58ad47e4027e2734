"""The table of docs/reliability.rst, from the record."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from compat_tests.pains.proofs import HELD_BY
from compat_tests.pains.record import seen
from compat_tests.pains.rows import ROWS
from tests.support.embedded import ROOT

DOCS = ROOT / "docs" / "reliability.rst"
BEGIN, END = ".. pains: begin\n", ".. pains: end\n"


def rendered(record: dict[str, Any]) -> str:
    """The section between the two markers."""
    made = record["made"]
    beside = ", ".join(f"{name} {made[name]}" for name in ("kombu", "pycurl", "botocore"))
    lines = [
        f"Made on {made['date']} beside Celery {made['celery']} ({beside}) on Python {made['python']}.",
        "",
        ".. list-table::",
        "   :header-rows: 1",
        "   :widths: 3 33 22 22 20",
        "",
        *_cells("Row", "What hurts, and the test", f"Celery {made['celery']}", "pyqs-celery", "Held by"),
    ]
    for number, both in seen(record).items():
        row = ROWS[number]
        lines += _cells(
            str(number),
            f"**{escaped(row.pain)}.** {escaped(row.test)}",
            escaped(both["celery"].said),
            escaped(both["ours"].said),
            ", ".join(f"``{name}``" for name in HELD_BY[number]),
        )
    return "\n".join([*lines, ""])


def _cells(*cells: str) -> list[str]:
    return [f"   {'*' if number == 0 else ' '} - {cell}" for number, cell in enumerate(cells)]


def escaped(text: str) -> str:
    """Plain words for reStructuredText."""
    return re.sub(r"([*`|\\]|_(?!\w))", r"\\\1", text)


def with_table(text: str, record: dict[str, Any]) -> str:
    """The docs' text with the section made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    assert after or rest.endswith(END), f"{DOCS} lacks {BEGIN.strip()!r} or {END.strip()!r}"
    return f"{before}{BEGIN}\n{rendered(record)}\n{END}{after}"


def exists(name: str) -> bool:
    """True if ``path::test`` (or ``path::Class::test``) is a test of this repository."""
    path, *inside = name.split("::")
    file = ROOT / path
    if not file.is_file() or not inside:
        return False
    return all(
        re.search(rf"^\s*(?:async )?(?:def|class) {re.escape(part)}\b", file.read_text(), re.MULTILINE)
        for part in inside
    )


def named_in(path: Path) -> list[str]:
    """Tests that a page names in double backquotes."""
    return re.findall(r"``((?:tests|compat_tests)/[\w/.]+::[\w:]+)``", path.read_text())
