"""No results are kept."""

from __future__ import annotations

from typing import Any, NoReturn

from pyqs_celery.backends.backend import Backend

NO_BACKEND = "No result backend is configured. pyqs-celery keeps no results unless result_backend is set."
NO_CHORD = (
    "Starting chords requires a result backend to be configured: set result_backend to Redis, DynamoDB, S3 or another."
)


class DisabledBackend(Backend):
    """Stands where a result back end would be: storing does nothing, asking raises NotImplementedError."""

    joins_by_results = False
    supports_autoexpire = True
    """There is nothing that a nightly task could drop."""

    def store_result(self, *args: Any, **kwargs: Any) -> None:
        """Accepted and forgotten, as Celery does."""

    def ensure_chords_allowed(self) -> NoReturn:
        """Raises NotImplementedError: nobody could tell when a chord's members have ended."""
        raise NotImplementedError(NO_CHORD)

    def as_uri(self, include_password: bool = False) -> str:
        """``disabled://``."""
        return "disabled://"

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(NO_BACKEND)

    get_state = get_status = get_result = get_traceback = get_children = get_task_meta = _refuse
    wait_for = get_many = save_group = restore_group = get_group_meta = task_result_exists = forget = _refuse
