"""10,000 crontabs over two years, the changes of summer time included: due when real Celery says so."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from compat_tests.conftest import APPS, PEER
from tests.support.embedded import ROOT

ZONES = ("UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata", "Africa/Casablanca")
START = datetime(2025, 1, 1, tzinfo=timezone.utc)
DAYS = 730
FIELDS = {"minute": (0, 59), "hour": (0, 23), "day_of_week": (0, 6), "day_of_month": (1, 31), "month_of_year": (1, 12)}
WEEKDAYS = "sun mon tue wed thu fri sat".split()
MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
COUNT = 10_000


def transitions(zone: str) -> list[float]:
    """The instants at which the zone's offset changes in the two years, to a quarter of an hour."""
    found, here = [], ZoneInfo(zone)
    before = START.astimezone(here).utcoffset()
    for quarter in range(DAYS * 96):
        at = START + timedelta(minutes=15 * quarter)
        offset = at.astimezone(here).utcoffset()
        if offset != before:
            found.append(at.timestamp())
            before = offset
    return found


def field(chance: random.Random, name: str) -> Any:
    least, most = FIELDS[name]
    one, other = chance.randint(least, most), chance.randint(least, most)
    kind = chance.choice(["*", "*", "one", "text", "step", "range", "range-step", "list", "set", "name"])
    if kind == "name" and name in ("day_of_week", "month_of_year"):
        names = WEEKDAYS if name == "day_of_week" else MONTHS
        return chance.choice([chance.choice(names), f"{chance.choice(names)}-{chance.choice(names)}"])
    return {
        "*": "*",
        "name": "*",
        "one": one,
        "text": str(one),
        "step": f"*/{chance.randint(1, most)}",
        "range": f"{one}-{other}",
        "range-step": f"{one}-{other}/{chance.randint(1, 7)}",
        "list": ",".join(str(chance.randint(least, most)) for _ in range(3)),
        "set": sorted({chance.randint(least, most) for _ in range(3)}),
    }[kind]


def questions(chance: random.Random) -> list[dict[str, Any]]:
    changes = {zone: transitions(zone) for zone in ZONES}
    found = []
    for _ in range(COUNT):
        zone = chance.choice(ZONES)
        if changes[zone] and chance.random() < 0.4:
            last = chance.choice(changes[zone]) + chance.randint(-36 * 3600, 36 * 3600)
        else:
            last = START.timestamp() + chance.randint(0, DAYS * 86_400)
        now = last + chance.choice([0, 1, 30, 61, 3600, 86_400, 9 * 86_400])
        found.append(
            {
                "zone": zone,
                "last": last,
                "now": now,
                "fields": {name: field(chance, name) for name in FIELDS if chance.random() < 0.6},
            }
        )
    return found


def ask(python: str, library: str, asked: list[dict[str, Any]]) -> list[Any]:
    path = str(ROOT) if library == "pyqs_celery" else ""
    done = subprocess.run(
        [python, str(APPS / "crontab_peer.py"), library],
        input="\n".join(json.dumps(question) for question in asked),
        env={**os.environ, "PYTHONPATH": path},
        cwd=Path(APPS),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def is_celerys_storm(question: dict[str, Any], theirs: Any) -> bool:
    """Celery takes minutes of the second of two equal hours in autumn for those of the first, which have passed.

    So an entry that is looked at in that hour is due at once, and again at once, until the hour is over. We do not repeat
    that: its next minute is the one that follows.
    """
    now = datetime.fromtimestamp(question["now"], ZoneInfo(question["zone"]))
    return bool(now.fold) and theirs == [True, 0, 0]


def test_ten_thousand_crontabs_are_due_when_celery_says_so(peer_version: tuple[int, ...]) -> None:
    if peer_version < (5, 5):
        pytest.skip("this Celery reads no names of months; 5.7 is what we are compared with")
    # given ten thousand random crontabs in six zones, asked about instants all over two years
    asked = questions(random.Random(20_261_124))

    # when both libraries are asked
    ours = ask(sys.executable, "pyqs_celery", asked)
    theirs = ask(PEER, "celery", asked)

    # then they answer alike
    different = [
        (question, a, b)
        for question, a, b in zip(asked, ours, theirs, strict=True)
        if a != b and not is_celerys_storm(question, b)
    ]
    assert not different, f"{len(different)} of {COUNT} differ, such as {different[:5]}"
