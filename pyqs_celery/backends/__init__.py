"""Result back ends, by the setting ``result_backend``. This release keeps no results yet and says so."""

from __future__ import annotations

from typing import Any

from pyqs_celery.backends.disabled import DisabledBackend
from pyqs_celery.exceptions import ImproperlyConfigured

_OFF = (None, "", "disabled", "disabled://")


def backend_for(app: Any) -> Any:
    """The back end of an app. Raises ImproperlyConfigured for one that this release does not have."""
    wanted = app.conf.result_backend
    if wanted in _OFF:
        return DisabledBackend(app)
    if isinstance(wanted, str) and wanted.startswith("cache+memory"):
        from pyqs_celery.backends.memory import MemoryBackend

        return MemoryBackend(app, wanted)
    scheme = str(wanted).split(":", 1)[0]
    raise ImproperlyConfigured(
        f"result_backend {scheme!r} is not supported by this release of pyqs-celery: leave result_backend unset here (tasks "
        "run, results are not kept), or keep the tasks whose results you read on Celery workers"
    )
