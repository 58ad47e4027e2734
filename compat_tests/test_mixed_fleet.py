"""Old and new producers and workers on one queue, as they stand for months during a migration."""

from __future__ import annotations

from collections import Counter


def test_both_sides_send_and_both_sides_work(sqs, stage):
    stage.produce("celery_side", *(["note", [f"c{n}"], {}, {"queue": "compat"}] for n in range(60)))
    stage.work("celery_side", "compat", "-n", "old@%h")
    stage.work("our_side", "compat", "-n", "new@%h")
    stage.wait("run", 1)

    stage.produce("our_side", *(["note", [f"p{n}"], {}, {"queue": "compat"}] for n in range(60)))

    stage.wait("run", 120, 120)
    expected = Counter([*(f"c{n}" for n in range(60)), *(f"p{n}" for n in range(60))])
    assert stage.diary.count("run") == expected
    sqs.wait_empty("compat")


def test_retries_pass_between_the_sides(sqs, stage):
    stage.produce("our_side", *(["again", [n], {}, {"queue": "compat"}] for n in range(10)))

    stage.work("celery_side", "compat", "-n", "old@%h")
    stage.work("our_side", "compat", "-n", "new@%h")

    stage.wait("run", 30, 90)
    assert stage.diary.count("run") == Counter(dict.fromkeys(range(10), 3))
