"""Logging as Celery sets it up: its formats, its logger names, and lines that come once a minute however often they are true.

https://docs.celeryq.dev/en/stable/userguide/tasks.html#logging
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

from pyqs_celery import _state, signals
from pyqs_celery.utils.text import one_line, plain_lines

if TYPE_CHECKING:
    _ToStream = logging.StreamHandler[TextIO]
else:
    _ToStream = logging.StreamHandler
RESERVED = frozenset({"celery", "celery.task"})
base_logger = logging.getLogger("celery")
task_logger = logging.getLogger("celery.task")
OURS = frozenset({"celery", "pyqs_celery"})
SPOKEN_BY_TASKS = frozenset({"celery.redirected", "celery.task"})
TELL_ALL_AT_DEBUG = ("boto3", "botocore", "urllib3")
"""Their debug lines hold whole messages and what signs requests; the worker's own level does not ask for that."""
LONGEST_MESSAGE = 64 * 1024
"""Characters of a log message that are written; the rest is counted."""
_BREAKS = re.compile(r"[\n\t]")
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
    """Colours warnings and worse, on a terminal, and lets no record forge another.

    What commands a terminal, or hides what is written, is escaped. Celery's own lines stay one line each; in those of an
    application, and in tracebacks, the lines after the first are indented, so that none looks like the beginning of a record.
    """

    def __init__(self, fmt: str | None = None, use_color: bool = False) -> None:
        super().__init__(fmt)
        self.use_color = use_color

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - its name in logging
        """The first line, with a message that cannot end it."""
        record.message = _one_record(record)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - its name in logging
        """The traceback, with exceptions whose text cannot end it."""
        if not isinstance(ei[1], BaseException):
            return plain_lines(super().formatException(ei))
        return plain_lines("".join(map(_indented, traceback.TracebackException(*ei).format())).rstrip("\n"))

    def format(self, record: logging.LogRecord) -> str:
        """The line, in its level's colour."""
        text = super().format(record)
        colour = _COLOURS.get(record.levelname)
        return f"\033[1;{colour}m{text}\033[0m" if self.use_color and colour else text


def _one_record(record: logging.LogRecord) -> str:
    message = record.message
    if len(message) > LONGEST_MESSAGE:
        message = f"{message[:LONGEST_MESSAGE]}... ({len(message)} characters)"
    first = record.name.partition(".")[0]
    if first in OURS and record.name not in SPOKEN_BY_TASKS:
        return _BREAKS.sub(lambda found: one_line(found.group()), plain_lines(message))
    return plain_lines(message.replace("\r\n", "\n").replace("\n", "\n    "))


def _indented(part: str) -> str:
    """One part of a traceback; its own lines after the first begin with blanks, those of an exception's text are made to."""
    if part.startswith("\n"):
        return part  # the sentence between two tracebacks
    first, *others = part.rstrip("\n").split("\n")
    return "\n".join([first, *(line if line.startswith(" ") else f"    {line}" for line in others)]) + "\n"


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
    for name in TELL_ALL_AT_DEBUG:
        if level < logging.INFO and logging.getLogger(name).level == logging.NOTSET:
            logging.getLogger(name).setLevel(logging.INFO)
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
    handler = _file_handler(logfile) if logfile else _StreamHandler(stream)
    handler.setFormatter(formatter)
    return handler


class _Unshaken(logging.Handler):
    """Says once a minute that records cannot be written (a full disk, say), where logging would say so of each at length."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - its name in logging
        exc = sys.exc_info()[1]
        if not isinstance(exc, OSError):
            super().handleError(record)
        elif sys.__stderr__ is not None and _lost("log", time.monotonic()):
            with contextlib.suppress(OSError):  # there is nobody left to be told
                print(f"The log cannot be written: {exc}", file=sys.__stderr__, flush=True)


class _StreamHandler(_Unshaken, _ToStream):
    pass


def _file_handler(path: str) -> logging.Handler:
    from logging.handlers import WatchedFileHandler

    class FileHandler(_Unshaken, WatchedFileHandler):
        pass

    return FileHandler(path, encoding="utf-8")


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


_lost = Sometimes()


class Troubles:
    """Troubles that many may have at once: each cause is spoken of at once, and then once in ``seconds`` for all who have it.

    So a log grows by a line a minute for each cause, whether one queue has it or five hundred. Any thread may call.
    """

    def __init__(self, seconds: float = 60.0) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()
        self._spoken: dict[object, float] = {}
        self._having: dict[object, dict[str, float]] = {}
        self._most: dict[object, int] = {}
        self._told: set[object] = set()

    def began(self, cause: object, who: str, now: float) -> str | None:
        """``who`` has it, or still has it. Gives whom to name, ``a`` or ``a (and 4 others)``, if it is time to speak."""
        with self._lock:
            having = self._having.setdefault(cause, {})
            having[who] = now
            if now - self._spoken.get(cause, float("-inf")) < self.seconds:
                self._most[cause] = max(self._most.get(cause, 0), len(having))
                return None
            self._spoken[cause] = now
            self._told.add(cause)
            having = self._having[cause] = {each: at for each, at in having.items() if now - at < 2 * self.seconds}
            self._most[cause] = max(self._most.get(cause, 0), len(having))
            return _with_others(who, len(having))

    def ended(self, who: str) -> str | None:
        """``who`` has none any more. Gives whom to name if nobody else has the same, and somebody was told of it."""
        named = None
        with self._lock:
            for cause, having in list(self._having.items()):
                if having.pop(who, None) is None or having:
                    continue
                del self._having[cause]
                most = self._most.pop(cause, 1)
                if cause in self._told:
                    self._told.discard(cause)
                    named = _with_others(who, most)
        return named


def _with_others(who: str, number: int) -> str:
    others = number - 1
    return who if not others else f"{who} (and {others} other{'s' if others > 1 else ''})"
