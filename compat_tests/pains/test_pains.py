"""The table of docs/reliability.rst is true: both sides do what it says, and what it says is what was seen."""

from __future__ import annotations

import re

import pytest

from compat_tests.conftest import PEER
from compat_tests.pains import record
from compat_tests.pains.play import Played, play
from compat_tests.pains.proofs import HELD_BY
from compat_tests.pains.rows import ROWS
from compat_tests.pains.table import DOCS, exists, named_in, with_table

IN_SCOPE = {*range(1, 21), *range(29, 34), 36, *range(40, 44)}
PLAYED_WITHIN_SECONDS = 900
RACES = {32}
"""Rows in which Celery loses by chance: processes that share a socket may also be lucky."""

pytestmark = pytest.mark.timeout(PLAYED_WITHIN_SECONDS)


@pytest.fixture(scope="session")
def played(peer_version: tuple[int, ...], tmp_path_factory: pytest.TempPathFactory) -> Played:
    """All rows on both sides, played at the same time before the first test looks."""
    recorded = record.load()["made"]["celery"]
    if ".".join(map(str, peer_version)) != recorded:
        pytest.skip(f"the table is about Celery {recorded}")
    return play(PEER, tmp_path_factory.mktemp("pains"))


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("number", sorted(ROWS))
def test_our_side_has_the_cure_of_the_row(played: Played, number: int) -> None:
    ours = played[number]["ours"]
    assert ours.kind == ROWS[number].cured, f"{ours.said}\n{ours.facts}"


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("number", sorted(ROWS))
def test_celery_does_what_the_table_says(played: Played, number: int) -> None:
    celery = played[number]["celery"]
    expected = {
        record.load()["rows"][str(number)]["celery"]["kind"],
        *([ROWS[number].cured] if number in RACES else []),
    }
    assert celery.kind in expected, f"{celery.said}\n{celery.facts}"


def test_the_table_has_every_row_in_scope() -> None:
    assert set(ROWS) == set(HELD_BY) == {int(number) for number in record.load()["rows"]} == IN_SCOPE


@pytest.mark.parametrize("number", sorted(ROWS))
def test_what_the_table_says_of_us_is_the_cure(number: int) -> None:
    assert record.load()["rows"][str(number)]["ours"]["kind"] == ROWS[number].cured


def test_the_docs_hold_the_table_that_the_record_makes() -> None:
    text = DOCS.read_text()
    assert text == with_table(text, record.load()), "run python -m compat_tests.pains"


@pytest.mark.parametrize("number", sorted(ROWS))
def test_every_row_names_tests_that_exist(number: int) -> None:
    assert HELD_BY[number]
    assert [name for name in HELD_BY[number] if not exists(name)] == []


def promises() -> dict[str, str]:
    """The promises of the page by their headings, with the text below each."""
    chapter = DOCS.read_text().partition("\nPromises\n========\n")[2].partition("\n=======")[0]
    parts = re.split(r"^(.+)\n-{3,}\n", chapter, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_page_makes_promises() -> None:
    assert len(promises()) >= 10


@pytest.mark.parametrize("heading", sorted(promises()))
def test_every_promise_has_its_limits_a_figure_and_tests_that_exist(heading: str) -> None:
    text = promises()[heading]
    assert [word for word in (":Limits:", ":Held by:", ":Measured:") if word not in text] == []
    named = re.findall(r"``((?:tests|compat_tests)/[\w/.]+::[\w:]+)``", text)
    assert named
    assert [name for name in named if not exists(name)] == []


def test_the_page_names_no_test_that_is_gone() -> None:
    assert [name for name in named_in(DOCS) if not exists(name)] == []
