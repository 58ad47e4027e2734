"""The record of a run of benchmarks: a line of JSON for each trial, after one line about the machine."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from benchmarks.cases.setting import Measures


@dataclass(frozen=True, slots=True)
class Row:
    """One trial: which case in which variant, which peer, which round, and what came out.

    ``error`` says why there are no measures; ``cut_off`` that they are of a part of the tasks. ``note`` is why a peer was
    not asked at all.
    """

    case: str
    variant: str
    peer: str
    round: int
    measures: Measures = field(default_factory=dict)
    cut_off: bool = False
    error: str | None = None
    note: str | None = None
    load: float = 0.0


@dataclass(frozen=True, slots=True)
class Heading:
    """About the machine and the run. ``load_end`` is None until the run is over."""

    date: str
    command: str
    python: str
    machine: str
    cores: int
    versions: dict[str, str]
    load_start: list[float]
    load_end: list[float] | None = None
    seconds: float | None = None
    finished: bool = False


class Record:
    """Writes lines as they come, so that a run that is broken off leaves what it has."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, entry: Row | Heading) -> None:
        """Add one line. A second Heading replaces the first when read."""
        kind = "row" if isinstance(entry, Row) else "heading"
        self._file.write(json.dumps({kind: asdict(entry)}) + "\n")
        self._file.flush()


def read(path: Path) -> tuple[Heading, list[Row]]:
    """The last heading and all rows of a record. Raises ValueError if it has no heading."""
    return parse(path.read_text().splitlines())


def parse(lines: Iterable[str]) -> tuple[Heading, list[Row]]:
    """As ``read``, from lines."""
    heading: Heading | None = None
    rows = []
    for line in lines:
        entry: dict[str, dict[str, Any]] = json.loads(line)
        if "heading" in entry:
            heading = Heading(**entry["heading"])
        else:
            rows.append(Row(**entry["row"]))
    if heading is None:
        raise ValueError("not a record of benchmarks: no heading")
    return heading, rows
