"""Results in real memcached servers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.stores.contract import StoreContract
from tests.support.servers import MemcachedServer


@pytest.fixture
def url(memcached_server: MemcachedServer) -> str:
    return f"cache+memcached://{memcached_server.empty()}/"


class TestMemcached(StoreContract):
    compresses = False

    @pytest.fixture
    def settings(self, url: str) -> dict[str, Any]:
        return {"result_backend": url}
