"""Results in memory keep the contract."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from pyqs_celery import Celery
from pyqs_celery.exceptions import ImproperlyConfigured
from tests.stores.contract import StoreContract


class TestMemory(StoreContract):
    @pytest.fixture
    def settings(self) -> dict[str, Any]:
        return {"result_backend": f"cache+memory://{uuid.uuid4().hex}"}

    def seconds_left(self, backend, task_id):
        with backend._store.changed:
            _, until = backend._store._values[backend.get_key_for_task(task_id)]
        return None if until is None else until - backend.clock()


def test_whoever_wants_to_hear_of_news_is_refused_by_a_store_that_has_none():
    app = Celery("m", backend=f"cache+memory://{uuid.uuid4().hex}", set_as_current=False)

    with pytest.raises(ImproperlyConfigured, match="on_message"):
        app.AsyncResult("x").get(on_message=print)
    with pytest.raises(ImproperlyConfigured, match="on_message"):
        app.backend.wait_for("x", on_message=print)
