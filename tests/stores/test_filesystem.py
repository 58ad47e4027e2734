"""Results in a directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.stores.contract import StoreContract


class TestFilesystem(StoreContract):
    counts_chords = False

    @pytest.fixture
    def settings(self, tmp_path: Path) -> dict[str, Any]:
        return {"result_backend": f"file://{tmp_path}"}
