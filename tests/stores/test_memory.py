"""Results in memory keep the contract."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.stores.contract import StoreContract


class TestMemory(StoreContract):
    @pytest.fixture
    def settings(self) -> dict[str, Any]:
        return {"result_backend": f"cache+memory://{uuid.uuid4().hex}"}

    def seconds_left(self, backend, task_id):
        with backend._store.changed:
            _, until = backend._store._values[backend.get_key_for_task(task_id)]
        return None if until is None else until - backend.clock()
