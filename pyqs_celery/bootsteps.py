"""``celery.bootsteps``: code of the user's that starts and stops with a worker (``app.steps["worker"].add(MyStep)``).

Steps are made before the worker forks, so that signal receivers connected there hold in every process; they are started
and stopped in the process that talks to SQS. The order is that in which they were added; ``requires`` is kept and not
needed. https://docs.celeryq.dev/en/stable/userguide/extending.html
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

logger = logging.getLogger("celery.bootsteps")
RUN, CLOSE, TERMINATE = 0x1, 0x2, 0x3


class Step:
    """A step without a life of its own: what it does, it does when it is made (``__init__`` or ``create``)."""

    name: str | None = None
    label: str | None = None
    conditional = False
    requires: Any = ()
    last = False
    enabled = True

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        pass

    def include_if(self, parent: Any) -> bool:
        """Whether this worker has the step."""
        return self.enabled

    def include(self, parent: Any) -> bool:
        """Make the step part of ``parent``; True if it is one."""
        if not self.include_if(parent):
            return False
        self.create(parent)
        return True

    def create(self, parent: Any) -> Any:
        """Called once the step is part of the worker."""

    def info(self, obj: Any) -> Any:
        """Facts for inspection."""
        return None

    @property
    def alias(self) -> str:
        """A name to show."""
        return self.label or self.name or type(self).__name__

    def __repr__(self) -> str:
        return f"<step: {self.alias}>"


class StartStopStep(Step):
    """A step that is started with the worker and stopped before it ends."""

    obj: Any = None

    def create(self, parent: Any) -> Any:
        """Make what ``start`` and ``stop`` are passed on to, if anything."""

    def include(self, parent: Any) -> bool:
        """Make the step part of ``parent``, and keep what ``create`` made."""
        if not self.include_if(parent):
            return False
        self.obj = self.create(parent)
        return True

    def start(self, parent: Any) -> Any:
        """Start."""
        return self.obj.start() if self.obj is not None else None

    def stop(self, parent: Any) -> Any:
        """Stop."""
        return self.obj.stop() if self.obj is not None else None

    def terminate(self, parent: Any) -> Any:
        """Stop at once."""
        terminate = getattr(self.obj, "terminate", None)
        return terminate() if terminate is not None else self.stop(parent)


class ConsumerStep(StartStopStep):
    """A step that would consume queues of its own with kombu. SQS's consumer does not lend its connection, so it is refused."""

    def get_consumers(self, channel: Any) -> Any:
        """To be overridden by users; never called here."""
        raise NotImplementedError("missing get_consumers")

    def include(self, parent: Any) -> bool:
        """Warn that the step has no effect."""
        logger.warning(
            "%r consumes messages with kombu, which this worker does not use: the step is left out. Write a task instead",
            self,
        )
        return False


class Steps:
    """The steps of one worker."""

    def __init__(self, classes: Iterable[Any], parent: Any, options: dict[str, Any]) -> None:
        self.parent = parent
        self.steps = [step for cls in classes for step in [cls(parent, **options)] if step.include(parent)]
        self._started: list[Any] = []

    def start(self) -> None:
        """Start them, the first added first. An error ends the worker's start, as in Celery."""
        for step in self.steps:
            if hasattr(step, "start"):
                step.start(self.parent)
                self._started.append(step)

    def stop(self) -> None:
        """Stop those that were started, the last one first; what one raises does not keep the others."""
        for step in reversed(self._started):
            try:
                step.stop(self.parent)
            except Exception:  # the worker must end all the same
                logger.exception("Error while stopping %r", step)
        self._started = []
