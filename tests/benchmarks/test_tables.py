"""Figures from rows: medians, ratios within a round, and nothing that was cut off or failed passing for whole."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from benchmarks import rows, table
from benchmarks.cli import BEGIN, END, main, put_between
from benchmarks.plan import CASE_NAMES, choose, full
from benchmarks.registry import PEERS
from benchmarks.rows import Heading, Record, Row
from benchmarks.summary import Figure, figure, groups
from benchmarks.table import COLUMNS, Column

HEADING = Heading(
    date="2026-01-01 00:00 UTC",
    command="python -m benchmarks",
    python="Python 3.11.7",
    machine="Linux",
    cores=2,
    versions={"raw": "boto3 1.2.3"},
    load_start=[0.1, 0.2, 0.3],
)


def row(peer, place, *, case="drain", variant="4 children", **fields):
    measures = {key: value for key, value in fields.items() if key not in ("cut_off", "error", "note")}
    others = {key: value for key, value in fields.items() if key in ("cut_off", "error", "note")}
    return Row(case, variant, peer, place, measures=measures, **others)


def group(*each):
    (found,) = groups(each)
    return found


def cells(of, peer):
    """One peer's cells by title; of titles that stand twice, the last."""
    (found,) = table.tables(of.rows)
    line = next(line for line in found.lines if line[0] == peer)
    return dict(zip(found.titles, line, strict=True))


class TestFigures:
    def test_a_figure_is_the_median_with_its_range(self):
        assert figure([3.0, 1.0, 10.0]) == Figure(3.0, 1.0, 10.0, 3)
        assert figure([1.0, 2.0]) == Figure(1.5, 1.0, 2.0, 2)
        assert figure([]) is None

    def test_ratios_are_taken_within_a_round_so_that_a_slow_minute_slows_both(self):
        found = group(
            row("raw", 1, speed=100), row("ours", 1, speed=50), row("raw", 2, speed=10), row("ours", 2, speed=5)
        )

        assert found.ratio("ours", "speed", to="raw") == Figure(0.5, 0.5, 0.5, 2)

    def test_pairs_are_made_by_the_rounds_number_not_by_order(self):
        found = group(
            row("ours", 2, speed=30), row("raw", 1, speed=100), row("ours", 1, speed=50), row("raw", 2, speed=10)
        )

        assert found.ratio("ours", "speed", to="raw") == Figure(1.75, 0.5, 3.0, 2)

    def test_a_round_in_which_one_of_the_two_failed_gives_no_ratio(self):
        found = group(
            row("raw", 1, speed=100), row("ours", 1, speed=50), row("raw", 2, error="died"), row("ours", 2, speed=5)
        )

        assert found.ratio("ours", "speed", to="raw") == Figure(0.5, 0.5, 0.5, 1)

    @pytest.mark.parametrize("reference", [0, None])
    def test_nothing_is_divided_by_nothing(self, reference):
        found = group(row("raw", 1, speed=reference), row("ours", 1, speed=50))

        assert found.ratio("ours", "speed", to="raw") is None

    def test_rows_are_grouped_by_case_and_variant_in_their_order(self):
        found = groups([row("raw", 1, variant="b"), row("raw", 1, variant="a"), row("ours", 1, variant="b")])

        assert [(each.variant, each.peers) for each in found] == [("b", ["raw", "ours"]), ("a", ["raw"])]


class TestCells:
    def test_a_ratio_shows_its_range_and_the_reference_itself_is_one(self):
        found = group(
            row("raw", 1, speed=10), row("ours", 1, speed=5), row("raw", 2, speed=10), row("ours", 2, speed=9)
        )
        column = Column("of raw", "speed", 2, to="raw", spread=True)

        assert column.cell(found, "raw") == "1"
        assert column.cell(found, "ours") == "0.70 (0.50 to 0.90)"

    def test_thousands_are_told_apart_and_text_stands_as_it_is(self):
        found = group(row("raw", 1, speed=12345.6, loads="boto3"))

        assert Column("tasks/s", "speed").cell(found, "raw") == "12,346"
        assert Column("loads", "loads").cell(found, "raw") == "boto3"
        assert Column("other", "other").cell(found, "raw") == "-"

    def test_what_was_cut_off_says_so_and_in_how_many_rounds(self):
        found = group(row("raw", 1, tasks_per_second=5, cut_off=True), row("raw", 2, tasks_per_second=5))

        assert cells(found, "raw")["remarks"] == "**cut off** in 1 of 2"

    def test_an_error_is_in_the_table_and_takes_no_part_in_the_median(self):
        found = group(row("raw", 1, error="TrialError: it died | badly\nat once"), row("raw", 2, tasks_per_second=7))

        assert cells(found, "raw")["tasks/s"] == "7"
        assert cells(found, "raw")["rounds"] == "1"
        assert cells(found, "raw")["remarks"] == "**error**: TrialError: it died / badly at once"

    def test_whoever_was_not_asked_has_the_reason_and_no_figures(self):
        found = group(row("raw", 1, tasks_per_second=5), row("celery", 1, note="no bulk API"))

        assert cells(found, "celery")["rounds"] == "0"
        assert cells(found, "celery")["tasks/s"] == "-"
        assert cells(found, "celery")["remarks"] == "no bulk API"


class TestReports:
    ROWS = (row("raw", 1, tasks_per_second=1000.0, requests_per_1000=200.0), row("celery", 1, error="gone"))

    def test_markdown_has_the_same_number_of_cells_in_every_line(self):
        lines = [line for line in table.markdown(HEADING, self.ROWS).splitlines() if line.startswith("|")]

        assert len(lines) == 4
        assert len({line.count("|") for line in lines}) == 1

    def test_restructured_text_has_columns_under_their_rules(self):
        text = table.restructured(HEADING, self.ROWS).splitlines()
        rule = next(line for line in text if line.startswith("==="))
        starts = [place for place in range(len(rule)) if rule[place] == "=" and (place == 0 or rule[place - 1] == " ")]
        (celery,) = [line for line in text if line.startswith("celery")]

        assert text.count(rule) == 3
        assert all(
            line == "" or line[start - 1] == " " for line in [celery] for start in starts[1:] if start < len(line)
        )
        assert celery[starts[-1] :] == "**error**: gone"

    def test_a_run_that_was_broken_off_says_so(self):
        assert "BROKEN OFF" in table.markdown(HEADING, self.ROWS)

    def test_what_is_written_is_read_again_and_the_last_heading_counts(self):
        file = io.StringIO()
        record = Record(file)
        for entry in (HEADING, *self.ROWS, replace(HEADING, finished=True, seconds=60.0)):
            record.write(entry)

        heading, found = rows.parse(file.getvalue().splitlines())

        assert heading.finished
        assert "took 1 minutes" in table.markdown(heading, found)
        assert tuple(found) == self.ROWS

    def test_no_heading_is_no_record(self):
        with pytest.raises(ValueError, match="no heading"):
            rows.parse([])

    def test_the_report_command_puts_tables_between_the_pages_marks_and_leaves_the_rest(self, tmp_path, capsys):
        record, page = tmp_path / "run.jsonl", tmp_path / "page.rst"
        with record.open("w") as file:
            Record(file).write(HEADING)
            Record(file).write(self.ROWS[0])
        page.write_text(f"before\n\n{BEGIN}\n\nold\n\n{END}\n\nafter\n")

        assert main(["report", str(record), "--into", str(page)]) == 0
        assert main(["report", str(record)]) == 0

        text = page.read_text()
        assert text.startswith(f"before\n\n{BEGIN}\n")
        assert text.endswith(f"{END}\n\nafter\n")
        assert "old" not in text
        assert "1,000" in text
        assert "| raw | 1 | 1,000 |" in capsys.readouterr().out

    def test_a_page_without_marks_is_refused(self):
        with pytest.raises(ValueError, match="lacks a mark"):
            put_between("a page", "tables")


class TestPlan:
    def test_every_case_has_columns_and_a_place_in_the_full_run(self):
        assert set(COLUMNS) == set(CASE_NAMES) == {planned.case for planned in full()}

    def test_headline_cases_are_played_in_five_rounds_of_five_thousand(self):
        drains = [planned for planned in full() if planned.case == "drain"]

        assert {(each.setting.children, each.setting.latency_ms) for each in drains} == {
            (4, 0),
            (4, 10),
            (10, 0),
            (10, 10),
        }
        assert {(each.rounds, each.setting.tasks) for each in drains} == {(5, 5000)}

    def test_what_the_command_line_says_counts_before_the_plans_own_numbers(self):
        (chosen,) = choose(["io"], quick=True, rounds=2, tasks=7, limit_seconds=1.5)

        assert (chosen.rounds, chosen.setting.tasks, chosen.setting.limit_seconds) == (2, 7, 1.5)

    def test_a_quick_run_is_one_round_of_few_tasks(self):
        assert all(each.rounds == 1 and each.setting.tasks <= 500 for each in choose(CASE_NAMES, quick=True))

    def test_an_unknown_case_or_peer_is_an_error_of_the_command_line(self, capsys):
        for arguments in (["--cases", "drains"], ["--peers", "rabbit"]):
            with pytest.raises(SystemExit):
                main(arguments)
            assert "there are" in capsys.readouterr().err

    def test_whom_a_case_leaves_out_is_a_peer(self):
        names = {peer.name for peer in PEERS}
        without = {name for planned in full() for name in planned.without}

        assert without <= names
        assert all(set(peer.lacks) <= set(CASE_NAMES) for peer in PEERS)
