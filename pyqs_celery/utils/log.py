"""Logging as Celery sets it up: its formats, its logger names, and lines that come once a minute however often they are true.

https://docs.celeryq.dev/en/stable/userguide/tasks.html#logging
"""

from __future__ import annotations

import logging
import logging.handlers
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from pyqs_celery import _state, signals

RESERVED = frozenset({"celery", "celery.task"})
base_logger = logging.getLogger("celery")
task_logger = logging.getLogger("celery.task")
_COLOURS = {"DEBUG": 34, "WARNING": 33, "ERROR": 31, "CRITICAL": 35}


def get_logger(name: str) -> logging.Logger:
    """A logger below ``celery``."""
    logger = logging.getLogger(name)
    if logging.root not in (logger, logger.parent) or logger is base_logger:
        return logger
    return _under(base_logger, logger)


def get_task_logger(name: str) -> logging.Logger:
    """A logger whose lines carry the name and id of the task that writes them. Raises RuntimeError for Celery's own names."""
    if name in RESERVED:
        raise RuntimeError(f"Logger name {name!r} is reserved!")
    return _under(task_logger, logging.getLogger(name))


def _under(parent: logging.Logger, logger: logging.Logger) -> logging.Logger:
    if logger not in (parent, base_logger, task_logger):
        logger.parent = parent
    return logger


def level_number(level: int | str) -> int:
    """A level by name, in any case, or number. Raises ValueError."""
    if isinstance(level, int):
        return level
    found = logging.getLevelName("WARNING" if level.upper() == "WARN" else level.upper())
    if not isinstance(found, int):
        raise ValueError(f"no such log level: {level!r}")
    return found


class ColorFormatter(logging.Formatter):
    """Colours warnings and worse, on a terminal."""

    def __init__(self, fmt: str | None = None, use_color: bool = False) -> None:
        super().__init__(fmt)
        self.use_color = use_color

    def format(self, record: logging.LogRecord) -> str:
        """The line, in its level's colour."""
        text = super().format(record)
        colour = _COLOURS.get(record.levelname)
        return f"\033[1;{colour}m{text}\033[0m" if self.use_color and colour else text


class TaskFormatter(ColorFormatter):
    """Adds ``task_id`` and ``task_name`` to records; ``???`` outside of a task."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, with the task that is running."""
        task = _state.get_current_task()
        if task is not None and task.request is not None:
            record.__dict__.update(task_id=task.request.id, task_name=task.name)
        else:
            record.__dict__.setdefault("task_name", "???")
            record.__dict__.setdefault("task_id", "???")
        return super().format(record)


class RedirectedStream:
    """Stands for stdout or stderr in a child: what is printed becomes log records."""

    encoding = "utf-8"
    errors = "strict"

    def __init__(self, logger: logging.Logger, level: int) -> None:
        self.logger = logger
        self.level = level
        self._busy = False

    def write(self, data: Any) -> int:
        """Log one piece of text; blank ones are dropped."""
        text = str(data).rstrip()
        if text and not self._busy:
            self._busy = True
            try:
                self.logger.log(self.level, text)
            finally:
                self._busy = False
        return len(str(data))

    def writelines(self, lines: Any) -> None:
        """Log several."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Nothing waits here."""

    def isatty(self) -> bool:
        """Never a terminal."""
        return False


def setup(
    conf: Mapping[str, Any],
    level: int,
    logfile: str | None = None,
    colorize: bool | None = None,
    stream: TextIO | None = None,
) -> None:
    """Set up the worker's logging, unless a receiver of ``setup_logging`` does."""
    formats = (conf["worker_log_format"], conf["worker_task_log_format"])
    colorize = conf["worker_log_color"] if colorize is None else colorize
    answers = signals.setup_logging.send(
        sender=None, loglevel=level, logfile=logfile, format=formats[0], colorize=colorize
    )
    if answers:
        return
    out = stream or sys.stderr
    if colorize is None:
        colorize = logfile is None and hasattr(out, "isatty") and out.isatty()
    root = logging.getLogger()
    if conf["worker_hijack_root_logger"]:
        for handler in list(root.handlers):
            root.removeHandler(handler)
    if not root.handlers:
        root.addHandler(_handler(logfile, out, ColorFormatter(formats[0], bool(colorize))))
    root.setLevel(level)
    signals.after_setup_logger.send(
        sender=None, logger=root, loglevel=level, logfile=logfile, format=formats[0], colorize=colorize
    )
    if not task_logger.handlers:
        task_logger.addHandler(_handler(logfile, out, TaskFormatter(formats[1], bool(colorize))))
        task_logger.propagate = False
    task_logger.setLevel(level)
    signals.after_setup_task_logger.send(
        sender=None, logger=task_logger, loglevel=level, logfile=logfile, format=formats[1], colorize=colorize
    )


def _handler(logfile: str | None, stream: TextIO, formatter: logging.Formatter) -> logging.Handler:
    handler: logging.Handler = (
        logging.handlers.WatchedFileHandler(logfile, encoding="utf-8") if logfile else logging.StreamHandler(stream)
    )
    handler.setFormatter(formatter)
    return handler


def redirect_output(conf: Mapping[str, Any]) -> None:
    """Turn what tasks print into log records of ``celery.redirected``, if ``worker_redirect_stdouts`` says so."""
    if not conf["worker_redirect_stdouts"]:
        return
    level = level_number(conf["worker_redirect_stdouts_level"])
    stream = RedirectedStream(get_logger("celery.redirected"), level)
    sys.stdout = stream


class Sometimes:
    """Says a thing at most once in ``seconds`` for each cause."""

    def __init__(self, seconds: float = 60.0) -> None:
        self.seconds = seconds
        self._last: dict[object, float] = {}

    def __call__(self, cause: object, now: float) -> bool:
        """True if it is time to speak of ``cause`` again."""
        if now - self._last.get(cause, float("-inf")) < self.seconds:
            return False
        if len(self._last) > 1000:
            self._last.clear()
        self._last[cause] = now
        return True
