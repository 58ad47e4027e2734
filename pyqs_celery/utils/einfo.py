"""An exception together with its traceback, in the form signal receivers and hooks expect."""

from __future__ import annotations

import sys
import traceback
from types import TracebackType


class ExceptionInfo:
    """``type``, ``exception``, ``tb`` and the formatted ``traceback`` of an exception.

    Celery hands billiard's class of this name to ``on_failure`` and ``task_failure``; the attributes are the same.
    """

    def __init__(self, exception: BaseException | None = None, tb: TracebackType | None = None) -> None:
        exception = exception if exception is not None else sys.exc_info()[1]
        assert exception is not None
        self.type = type(exception)
        self.exception = exception
        self.tb = tb or exception.__traceback__
        self.traceback = "".join(traceback.format_exception(self.type, exception, self.tb))
        self.internal = False

    @property
    def exc_info(self) -> tuple[type[BaseException], BaseException, TracebackType | None]:
        """What ``sys.exc_info()`` gives."""
        return self.type, self.exception, self.tb

    def __str__(self) -> str:
        return self.traceback

    def __repr__(self) -> str:
        return f"<ExceptionInfo: {self.exception!r}>"
