"""Tables of the figures, as Markdown and as reStructuredText."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.registry import CELERY, RAW
from benchmarks.rows import Heading, Row
from benchmarks.summary import Figure, Group, groups

ERROR_MOST = 160


@dataclass(frozen=True, slots=True)
class Column:
    """A measure under a title; ``to``: not itself but its ratio to another peer's, round by round; ``spread``: with range."""

    title: str
    key: str
    digits: int = 0
    to: str | None = None
    spread: bool = False

    def cell(self, group: Group, peer: str) -> str:
        """One peer's cell; a dash where there is nothing."""
        if self.to == peer and group.value(peer, self.key):
            return "1"
        found = group.ratio(peer, self.key, self.to) if self.to else group.value(peer, self.key)
        return self._shown(found) if found else group.text(peer, self.key) or "-"

    def _shown(self, found: Figure) -> str:
        text = f"{found.median:,.{self.digits}f}"
        if self.spread and found.rounds > 1:
            text += f" ({found.least:,.{self.digits}f} to {found.most:,.{self.digits}f})"
        return text


_DRAIN = (
    Column("tasks/s", "tasks_per_second", spread=True),
    Column("of raw", "tasks_per_second", 3, to=RAW, spread=True),
    Column("of celery", "tasks_per_second", 1, to=CELERY),
    Column("CPU s per 1,000", "cpu_per_1000", 2),
    Column("of raw", "cpu_per_1000", 2, to=RAW, spread=True),
    Column("requests per 1,000", "requests_per_1000", 1),
    Column("redelivered", "redelivered"),
)
_SCALE = (
    Column("tasks/s", "tasks_per_second"),
    Column("of raw", "tasks_per_second", 3, to=RAW),
    Column("CPU s per 1,000", "cpu_per_1000", 2),
    Column("of raw", "cpu_per_1000", 2, to=RAW),
    Column("requests per 1,000", "requests_per_1000", 1),
)
COLUMNS: dict[str, tuple[Column, ...]] = {
    "drain": _DRAIN,
    "io": _DRAIN,
    "produce": (
        Column("p50 ms", "p50_ms", 2),
        Column("of raw", "p50_ms", 2, to=RAW, spread=True),
        Column("p99 ms", "p99_ms", 2),
        Column("CPU s per 1,000", "cpu_per_1000", 2),
        Column("of raw", "cpu_per_1000", 2, to=RAW, spread=True),
        Column("requests", "requests"),
        Column("for tasks", "sent"),
        Column("all requests, first send included", "actions"),
    ),
    "bulk": (
        Column("requests", "requests"),
        Column("CPU s per 1,000", "cpu_per_1000", 2),
        Column("of raw", "cpu_per_1000", 2, to=RAW, spread=True),
        Column("seconds", "seconds", 2),
        Column("all requests, first send included", "actions"),
    ),
    "import": (
        Column("CPU ms", "cpu_ms"),
        Column("of raw", "cpu_ms", 2, to=RAW, spread=True),
        Column("wall ms", "wall_ms"),
        Column("modules", "modules"),
        Column("loads", "loads"),
    ),
    "first": (Column("ms", "first_ms"), Column("of raw", "first_ms", 2, to=RAW, spread=True)),
    "idle": (
        Column("requests an hour", "requests_per_hour"),
        Column("a queue", "requests_per_hour_per_queue"),
        Column("CPU s an hour", "cpu_seconds_per_hour", 1),
        Column("open polls", "open_polls"),
        Column("seen", "actions"),
    ),
    "latency": (
        Column("p50 ms", "p50_ms", 1),
        Column("p99 ms", "p99_ms", 1),
        Column("p50 in requests", "p50_requests", 2),
        Column("p99 in requests", "p99_requests", 2),
        Column("one request, ms", "request_ms", 2),
        Column("tasks", "tasks"),
    ),
    "memory": (
        Column("PSS MiB idle", "pss_idle"),
        Column("after 1,000", "pss_after_1000"),
        Column("after all", "pss_after_all"),
        Column("of celery", "pss_after_all", 2, to=CELERY),
        Column("RSS MiB after all", "rss_after_all"),
        Column("processes", "processes_after_all"),
        Column("tasks", "tasks"),
    ),
    "queues": _SCALE,
    "backlog": _SCALE,
    "children": _SCALE,
}


@dataclass(frozen=True, slots=True)
class Table:
    """Titles and lines of text."""

    title: str
    titles: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


def tables(rows: Sequence[Row]) -> list[Table]:
    """One for each case and variant."""
    return [_table(group) for group in groups(rows)]


def _table(group: Group) -> Table:
    columns = COLUMNS[group.case]
    lines = [
        (peer, str(len(_played(group, peer))), *(column.cell(group, peer) for column in columns), _remarks(group, peer))
        for peer in group.peers
    ]
    titles = ("peer", "rounds", *(column.title for column in columns), "remarks")
    return Table(f"{group.case}: {group.variant}", titles, tuple(lines))


def _played(group: Group, peer: str) -> list[Row]:
    return [row for row in group.of(peer) if row.note is None and row.error is None]


def _remarks(group: Group, peer: str) -> str:
    found = [group.note(peer) or ""]
    cut_off = group.cut_off(peer)
    if cut_off:
        found.append(f"**cut off** in {cut_off} of {len(_played(group, peer))}")
    found += [f"**error**: {each[:ERROR_MOST]}" for each in group.errors(peer)]
    return "; ".join(filter(None, found)).replace("|", "/").replace("\n", " ")


def facts(heading: Heading) -> list[str]:
    """About the machine and the run, a sentence each."""
    end = ", ".join(f"{each:.1f}" for each in heading.load_end or ())
    start = ", ".join(f"{each:.1f}" for each in heading.load_start)
    return [
        f"{heading.date}; {heading.machine}, {heading.cores} cores; {heading.python}",
        f"load average at the start {start}; at the end {end or 'unknown'}",
        f"command: {heading.command}",
        f"took {(heading.seconds or 0) / 60:.0f} minutes" if heading.finished else "BROKEN OFF before its end",
        *(f"{name}: {versions}" for name, versions in heading.versions.items()),
    ]


def markdown(heading: Heading, rows: Sequence[Row]) -> str:
    """The report as Markdown."""
    parts = ["# Benchmarks", "\n".join(f"- {fact}" for fact in facts(heading))]
    for table in tables(rows):
        rule = ["---", *("--:" for _ in table.titles[1:-1]), "---"]
        body = [_bar(table.titles), _bar(rule), *map(_bar, table.lines)]
        parts.append(f"## {table.title}\n\n" + "\n".join(body))
    return "\n\n".join(parts) + "\n"


def _bar(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def restructured(heading: Heading, rows: Sequence[Row]) -> str:
    """The report as reStructuredText, for a page that has a title already."""
    parts = ["\n".join(f"* {fact}" for fact in facts(heading))]
    for table in tables(rows):
        widths = [max(map(len, cells)) for cells in zip(table.titles, *table.lines, strict=True)]
        rule = "  ".join("=" * width for width in widths)
        lines = [rule, _padded(table.titles, widths), rule, *(_padded(line, widths) for line in table.lines), rule]
        parts.append(f"{table.title}\n{'~' * len(table.title)}\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _padded(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
