"""The soak itself, for a moment: what runs for half an hour must at least run."""

from __future__ import annotations

import os

import pytest

from tests.soak.driver import Soak, Wish
from tests.soak.report import as_json, as_text, failures
from tests.soak.usage import Sample, Usage, courses

SECONDS = float(os.environ.get("PYQS_CELERY_SOAK_SECONDS", "12"))


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
def test_nothing_is_lost_in_a_short_soak(tmp_path):
    """A longer one: ``PYQS_CELERY_SOAK_SECONDS``, or ``python -m tests.soak``."""
    wish = Wish(SECONDS, rate=30.0, seed=int.from_bytes(os.urandom(3)), folder=tmp_path / "soak", every=1.5)
    soak = Soak(wish)

    soak.run()

    report = as_text(soak)
    assert not failures(soak), report
    counts = soak.verdict.counts
    arrived = counts["ids"] - counts["in doubt, and not there"]  # an outage of sends may strike most of so short a time
    assert arrived > SECONDS, report
    assert counts["succeeded"] > 0.8 * arrived, report
    assert soak.chaos.counts.total() >= 1, report
    assert '"failures": {}' in as_json(soak)


def samples(kib, descriptors, number=40, tasks=5_000):
    return [
        Sample(place, place * tasks, (Usage("consumer", 7, kib(place), 17, descriptors(place)),))
        for place in range(number)
    ]


def test_a_process_that_grows_is_told():
    (course,) = courses(samples(lambda place: 50_000 + place * 256, lambda place: 30))

    assert course.slope_mib == pytest.approx(0.25 * 40)
    assert course.faults == ["consumer 7 grows by 10.0 MiB for 200,000 tasks"]


def test_a_process_that_opens_ever_more_is_told():
    (course,) = courses(samples(lambda place: 50_000, lambda place: 30 + 2 * place))

    assert course.faults == ["consumer 7 has ever more descriptors, at least (46, 62, 78, 94) in each quarter"]


def test_a_process_that_stays_as_it_is_is_in_order():
    (course,) = courses(samples(lambda place: 50_000 + place % 3, lambda place: 30 + place % 4))

    assert course.faults == []
