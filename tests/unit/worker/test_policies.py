"""How settings become policies: what hides a message, and for how long."""

from __future__ import annotations

import pytest

from pyqs_celery.worker.policies import lease_seconds


@pytest.mark.parametrize(
    ("setting", "option", "own", "lease"),
    [
        (None, None, 30, 30),
        (None, None, 1800, 60),
        (None, None, 0, 5),
        (None, 120, 30, 120),
        (None, 43_200, 30, 120),
        (None, 2, 30, 5),
        (300, None, 30, 300),
        (300, 120, 30, 300),
        (3, 120, 30, 3),
    ],
)
def test_what_is_set_wins_over_the_queues_own_timeout_and_hours_are_nobodys_lease(setting, option, own, lease):
    assert lease_seconds(setting, option, own) == lease
