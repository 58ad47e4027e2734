"""Names, arguments and defaults, table against table: exceptions, signals and settings of real Celery 5.7 and ours."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from compat_tests.conftest import PEER
from pyqs_celery import exceptions, signals
from pyqs_celery.app.config import OLD_NAMES
from pyqs_celery.app.config_idle import IDLE_DEFAULTS
from pyqs_celery.app.config_table import SETTINGS

TABLES = """
import json
from celery import exceptions, signals
from celery.app import defaults
print(json.dumps({
    "exceptions": {
        n: [base.__name__ for base in getattr(getattr(exceptions, n), "__mro__", ())] for n in exceptions.__all__
    },
    "signals": {n: sorted(getattr(signals, n).providing_args or []) for n in signals.__all__},
    "defaults": {n: repr(v) for n, v in defaults.DEFAULTS.items()},
    "old": defaults._TO_NEW_KEY,
}))
"""
MEANT = {
    "task_acks_late": "None is unset: deleted after success",
    "task_acks_on_failure_or_timeout": "None is unset: failures come back",
    "task_create_missing_queues": "None: producers create, workers do not",
    "worker_prefetch_multiplier": "None: adaptive",
    "broker_use_ssl": "None: by the URL",
    "gcs_ttl": "0.0, a float as its type says",
}


@pytest.fixture(scope="module")
def tables(peer_version: tuple[int, ...]) -> dict[str, Any]:
    if peer_version < (5, 7):
        pytest.skip("the tables are those of Celery 5.7")
    done = subprocess.run([PEER, "-c", TABLES], capture_output=True, text=True, check=True, cwd=Path("/"))
    return json.loads(done.stdout)


def test_every_exception_is_here_below_the_same_ones(tables):
    for name, bases in tables["exceptions"].items():
        ours = {base.__name__ for base in getattr(getattr(exceptions, name), "__mro__", ())}
        above = {base for base in bases if base in tables["exceptions"]}
        assert above <= ours, name


def test_every_signal_tells_the_same(tables):
    for name, arguments in tables["signals"].items():
        assert set(arguments) <= set(getattr(signals, name).providing_args), name


def test_every_setting_has_celerys_default_or_one_that_is_meant(tables):
    ours = {**{name: row.default for name, row in SETTINGS.items()}, **IDLE_DEFAULTS}

    different = {name for name, value in tables["defaults"].items() if repr(ours.get(name, "missing")) != value}

    assert different == set(MEANT)


def test_every_old_name_is_known(tables):
    unknown = {old for old, new in tables["old"].items() if old.isupper() and OLD_NAMES.get(old) != new}

    assert unknown == set()
