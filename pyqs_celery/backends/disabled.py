"""No results are kept."""

from __future__ import annotations

from typing import Any, NoReturn


class DisabledBackend:
    """Stands where a result back end would be: storing does nothing, asking raises NotImplementedError."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def store_result(self, *args: Any, **kwargs: Any) -> None:
        """Accepted and forgotten, as Celery does."""

    def get_state(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises NotImplementedError: there is nowhere to look."""
        raise NotImplementedError(
            "No result backend is configured. pyqs-celery keeps no results unless result_backend is set."
        )

    get_result = get_traceback = get_task_meta = wait_for = get_state
