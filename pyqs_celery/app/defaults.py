"""``celery.app.defaults``: the defaults of all settings and the log formats, for code that builds on them."""

from __future__ import annotations

from typing import Any

from pyqs_celery.app.config_idle import IDLE_DEFAULTS
from pyqs_celery.app.config_table import PROCESS_LOG_FORMAT, SETTINGS, TASK_LOG_FORMAT

DEFAULT_PROCESS_LOG_FMT = PROCESS_LOG_FORMAT
DEFAULT_TASK_LOG_FMT = TASK_LOG_FORMAT
DEFAULT_LOG_FMT = PROCESS_LOG_FORMAT
DEFAULT_POOL = "prefork"
DEFAULTS: dict[str, Any] = {**{name: row.default for name, row in SETTINGS.items()}, **IDLE_DEFAULTS}
