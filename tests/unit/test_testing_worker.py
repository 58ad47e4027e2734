"""``start_worker`` of a test suite, on an application with settings of its own."""

from __future__ import annotations

import time

from pyqs_celery import Celery
from pyqs_celery.contrib.testing.worker import start_worker


def test_a_test_worker_stops_well_before_its_time_is_over():
    """An open poll waits ten seconds where nothing says how long, and a stop, which waits for it, was given no more."""
    app = Celery("mine", broker="memory://test-worker", set_as_current=False)

    with start_worker(app, perform_ping_check=False, shutdown_timeout=8.0):
        began = time.monotonic()

    assert time.monotonic() - began < 8
