"""``celery.app.log``: the formatter and the set-up of logging under the names that formatters of users derive from."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pyqs_celery.utils.log import ColorFormatter, TaskFormatter, setup

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery

__all__ = ("ColorFormatter", "Logging", "TaskFormatter")


class Logging:
    """Set-up of an application's logging; ``Celery(log=MyLogging)`` replaces it.

    https://docs.celeryq.dev/en/stable/reference/celery.app.log.html
    """

    already_setup = False

    def __init__(self, app: Celery) -> None:
        self.app = app
        self.loglevel: Any = logging.WARNING

    def setup(
        self,
        loglevel: int | str | None = None,
        logfile: str | None = None,
        redirect_stdouts: bool = False,
        redirect_level: str = "WARNING",
        colorize: bool | None = None,
        hostname: str | None = None,
    ) -> bool:
        """Set up the root logger and the tasks'; True, once."""
        self.setup_logging_subsystem(loglevel, logfile, colorize=colorize, hostname=hostname)
        return True

    def setup_logging_subsystem(
        self,
        loglevel: int | str | None = None,
        logfile: str | None = None,
        format: str | None = None,  # noqa: A002 - Celery's name
        colorize: bool | None = None,
        hostname: str | None = None,
        **_: Any,
    ) -> None:
        """Set up handlers, formats and levels, unless a receiver of ``setup_logging`` does."""
        if self.already_setup:
            return
        type(self).already_setup = True
        level = self.loglevel if loglevel is None else loglevel
        number = level if isinstance(level, int) else logging.getLevelName(str(level).upper())
        setup(self.app.conf, number, logfile, colorize)

    def get_default_logger(self, name: str = "celery", **_: Any) -> logging.Logger:
        """The logger of that name."""
        return logging.getLogger(name)
