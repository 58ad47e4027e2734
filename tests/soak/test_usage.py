"""What a soak says of descriptors and memory: fed with made-up samples."""

from __future__ import annotations

import pytest

from tests.soak.fleet import Usage
from tests.soak.usage import Sample, courses


def course_of(descriptors, kib=(50_000,), tasks=250_000):
    """One process, of which so many descriptors were open at each sample, and so much memory used."""
    samples = [
        Sample(
            float(number),
            number * tasks // len(descriptors),
            (Usage("consumer", 7, kib[number % len(kib)], 19, count),),
        )
        for number, count in enumerate(descriptors)
    ]
    (found,) = courses(samples)
    return found


@pytest.mark.parametrize(
    "descriptors",
    [[40] * 100, [40] * 40 + [70] * 60, [40] * 75 + [70] * 25, [40, 60, 45, 41] * 25],
    ids=["the same", "a burst early", "a burst late", "coming and going"],
)
def test_a_burst_of_connections_is_no_leak(descriptors):
    assert course_of(descriptors).faults == []


@pytest.mark.parametrize("each", [1, 2, 3], ids="a descriptor every {} samples".format)
def test_what_rises_from_each_quarter_to_the_next_is(each):
    descriptors = [40 + number // each for number in range(100)]

    (told,) = course_of(descriptors).faults

    assert "ever more descriptors" in told


def test_memory_that_grows_is_told_and_memory_that_swings_is_not():
    assert course_of([40] * 100, kib=(50_000, 51_000, 50_500)).faults == []

    (told,) = course_of([40] * 100, kib=range(50_000, 60_000, 100)).faults

    assert "grows by" in told
