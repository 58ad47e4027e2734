"""The fleets of one peer: each batch runs once, when the first test asks for it; the tests look at its answers.

``PYQS_CELERY_PEER_PYTHON`` names the interpreter that has Celery, redis, SQLAlchemy and boto3.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from compat_tests.mixed.fleets import BATCHES, Answers, Fleet, Machine, Run, peer_version, roles, run_batch
from compat_tests.mixed.servers import Servers
from compat_tests.mixed.table import BEHAVIOURS, OLDEST, names

PEER = os.environ.get("PYQS_CELERY_PEER_PYTHON") or sys.executable


@cache
def version() -> tuple[int, ...]:
    return peer_version(PEER)


@dataclass(frozen=True)
class Case:
    """A behaviour in a run of a fleet."""

    fleet: Fleet
    run: Run
    behaviour: str

    def accepted(self):
        return BEHAVIOURS[self.behaviour].accepts(version(), self.fleet.store)


def runs() -> list[tuple[Fleet, Run]]:
    return [(fleet, run) for batch in BATCHES for fleet in batch for run in fleet.runs]


def cases() -> list[Case]:
    return [
        Case(fleet, run, name)
        for fleet, run in runs()
        for name in names(store=fleet.store, kind=fleet.kind, version=version())
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if version() < OLDEST:
        return
    if "case" in metafunc.fixturenames:
        found = cases()
        metafunc.parametrize("case", found, ids=[f"{case.run.name}-{case.behaviour}" for case in found])
    if "fleet_run" in metafunc.fixturenames:
        metafunc.parametrize("fleet_run", runs(), ids=[run.name for _, run in runs()])
    if "fleet" in metafunc.fixturenames:
        fleets = [fleet for batch in BATCHES for fleet in batch]
        metafunc.parametrize("fleet", fleets, ids=[fleet.name for fleet in fleets])


class Performance:
    """Runs a batch when one of its fleets is asked for, and keeps its answers, or why there are none."""

    def __init__(self, folder: Path) -> None:
        self.servers = Servers()
        self.machine = Machine(self.servers.sqs, folder, roles(PEER), version())
        self._answers: dict[str, dict[str, Answers]] = {}
        self._failed: dict[str, BaseException] = {}

    def of(self, fleet: Fleet) -> dict[str, Answers]:
        """The answers of a fleet's runs, by name."""
        if fleet.name in self._failed:
            raise AssertionError(f"{fleet.name} could not be run") from self._failed[fleet.name]
        if fleet.name not in self._answers:
            batch = next(batch for batch in BATCHES if fleet in batch)
            try:
                self._answers.update(run_batch(self.machine, batch, self.servers))
            except BaseException as exc:
                self._failed.update(dict.fromkeys((each.name for each in batch), exc))
                raise
        return self._answers[fleet.name]


@pytest.fixture(scope="session")
def performance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Performance]:
    performance = Performance(tmp_path_factory.mktemp("mixed"))
    yield performance
    performance.servers.close()


@pytest.fixture
def case() -> Case:
    pytest.skip("the mixed fleets are for Celery 5.4 and later")


@pytest.fixture
def fleet_run() -> tuple[Fleet, Run]:
    pytest.skip("the mixed fleets are for Celery 5.4 and later")


@pytest.fixture
def fleet() -> Fleet:
    pytest.skip("the mixed fleets are for Celery 5.4 and later")
