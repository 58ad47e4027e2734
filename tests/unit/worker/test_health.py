"""What makes a worker healthy, as pure rules over reports."""

from __future__ import annotations

import json
import os

import pytest

from pyqs_celery.worker.health import (
    FUSES_MOST,
    Fuse,
    Report,
    judge,
    read_file,
    soonest,
    write_file,
)
from pyqs_celery.worker.vitals import Lease, Sight, Vitals

IDLE = Sight(slots=2, idle=2)
BUSY = Sight(slots=2, idle=0)


def red(vitals: Vitals, sight: Sight, now: float) -> list[str]:
    """What is wrong at ``now``, were it reported then."""
    return [fuse.reason for fuse in vitals.fuses(sight, now) if fuse.at <= now]


# -- polls -----------------------------------------------------------------------------------------


def test_a_queue_whose_poll_does_not_come_back_turns_red_in_a_minute():
    vitals = Vitals()
    vitals.serve(["q"])
    vitals.asked("q", 100)

    assert red(vitals, IDLE, 159) == []
    assert red(vitals, IDLE, 160) == ["queue q: no poll has completed in 60 s"]


def test_an_error_is_no_completed_poll_and_is_told():
    vitals = Vitals()
    vitals.serve(["q"])
    for at in range(100, 165, 5):
        vitals.asked("q", at)
        vitals.answered("q", "AccessDenied: no", at + 1)

    assert red(vitals, IDLE, 165) == ["queue q: no poll has completed in 60 s (AccessDenied: no)"]


def test_a_completed_poll_pays_what_was_owed():
    vitals = Vitals()
    vitals.serve(["q"])
    vitals.asked("q", 100)
    vitals.answered("q", None, 159)
    vitals.asked("q", 159)

    assert red(vitals, IDLE, 200) == []


def test_a_queue_that_nobody_asks_turns_red_though_its_last_poll_was_fine():
    vitals = Vitals()
    vitals.serve(["q"])
    sight = Sight(slots=2, idle=1, untouched=frozenset({"q"}))

    assert red(vitals, sight, 100) == []
    assert red(vitals, sight, 160) == ["queue q: no poll has completed in 60 s"]


def test_a_queue_whose_messages_are_in_hand_need_not_be_polled():
    vitals = Vitals()
    vitals.serve(["q"])

    assert red(vitals, IDLE, 100) == red(vitals, IDLE, 1000) == []


def test_a_long_task_in_every_slot_stays_green_while_its_lease_is_kept():
    vitals = Vitals()
    vitals.serve(["q"])
    vitals.asked("q", 100)
    vitals.answered("q", None, 101)
    busy = Sight(slots=1, leases=(Lease("t1", 760),), untouched=frozenset({"q"}))

    assert red(vitals, busy, 700) == []
    assert red(vitals, busy, 760) == ["the lease of task t1 was not kept"]


def test_a_lease_shorter_than_the_time_between_reports_is_not_red_before_the_next():
    (fuse,) = Vitals().fuses(Sight(slots=1, leases=(Lease("t1", 103),)), 100)

    assert fuse.at == 110


def test_a_lost_lease_is_red_at_once():
    assert red(Vitals(), Sight(slots=1, leases=(Lease("t1", 760, lost=True),)), 700) == [
        "the lease of task t1 was not kept"
    ]


def test_a_refused_deletion_is_red_and_says_what_to_allow():
    vitals = Vitals()
    vitals.serve(["q"])

    assert "allow sqs:DeleteMessage" in red(vitals, Sight(slots=1, idle=1, forbidden=frozenset({"q"})), 5)[0]


def test_only_a_poll_that_hangs_is_cured_by_a_restart():
    vitals = Vitals()
    vitals.serve(["q"])
    vitals.asked("q", 0)
    report = Report(130, "ready", tuple(vitals.fuses(IDLE, 130)))
    failing = Vitals()
    failing.serve(["q"])
    failing.asked("q", 0)
    failing.answered("q", "no answer", 120)
    failing.asked("q", 120)

    assert not judge(report, 130, live=True).ok
    assert judge(Report(130, "ready", tuple(failing.fuses(IDLE, 130))), 130, live=True).ok


def test_a_queue_that_is_dropped_is_watched_no_more():
    vitals = Vitals()
    vitals.serve(["q"])
    vitals.asked("q", 0)
    vitals.serve([])
    vitals.answered("q", None, 1)

    assert red(vitals, IDLE, 1000) == []


# -- reports ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "ok", "live"), [("ready", True, True), ("starting", False, True), ("stopping", False, True)]
)
def test_a_worker_that_starts_or_stops_lives_but_takes_no_messages(state, ok, live):
    report = Report(10, state)

    assert judge(report, 11).ok is ok
    assert judge(report, 11, live=True).ok is live


def test_a_report_that_is_not_renewed_turns_red_by_itself():
    report = Report(10, "ready", (Fuse(25, "x broke"),))

    assert judge(report, 24).ok
    assert judge(report, 25).reasons == ("x broke",)
    assert judge(report, 41).reasons == ("x broke", "the worker has not reported for 31 s")
    assert not judge(report, 41, live=True).ok


def test_a_report_from_before_the_machine_was_started_is_worth_nothing():
    assert not judge(Report(1000, "ready"), 5).ok


def test_a_report_keeps_what_comes_first():
    fuses = soonest(Fuse(at, str(at)) for at in range(100, 0, -1))

    assert [fuse.at for fuse in fuses] == list(range(1, FUSES_MOST + 1))


def test_a_report_survives_json():
    report = Report(1.5, "ready", (Fuse(2.0, "x", curable=True),), {"slots": 1})

    assert Report.from_plain(json.loads(json.dumps(report.to_plain()))) == report


@pytest.mark.parametrize(
    "plain",
    [
        None,
        [],
        {},
        {"at": "x", "state": "", "fuses": [], "facts": {}},
        {"at": 1, "state": "", "fuses": [1], "facts": {}},
    ],
)
def test_what_is_no_report_is_refused(plain):
    with pytest.raises(ValueError, match="no report"):
        Report.from_plain(plain)


# -- files -----------------------------------------------------------------------------------------


def test_the_files_time_is_when_the_worker_was_last_healthy(tmp_path):
    """So that probes by the age of a file, as old ones are, tell the truth too."""
    path = tmp_path / "health"
    write_file(path, "w@h", Report(10, "ready"), 11)
    os.utime(path, (500, 500))

    write_file(path, "w@h", Report(20, "ready", (Fuse(15, "broken"),)), 21)
    assert path.stat().st_mtime == 500

    write_file(path, "w@h", Report(30, "ready"), 31)
    assert path.stat().st_mtime > 500
    assert read_file(path) == ("w@h", Report(30, "ready"))
    assert [each.name for each in tmp_path.iterdir()] == ["health"]


def test_a_file_that_was_never_healthy_is_old(tmp_path):
    write_file(tmp_path / "health", "w@h", Report(10, "starting"), 11)

    assert (tmp_path / "health").stat().st_mtime == 0


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"report": 3}'])
def test_a_file_of_something_else_is_refused(tmp_path, text):
    (tmp_path / "health").write_text(text)

    with pytest.raises(ValueError, match=r"."):
        read_file(tmp_path / "health")
