"""Tasks by name."""

from __future__ import annotations

from typing import Any

from pyqs_celery.exceptions import NotRegistered


class TaskRegistry(dict[str, Any]):
    """A dictionary from names to tasks; a name that is not there raises NotRegistered, which is a KeyError."""

    NotRegistered = NotRegistered

    def __missing__(self, key: str) -> Any:
        raise NotRegistered(key)

    def register(self, task: Any) -> Any:
        """Add a task, or an instance of a task class, under its name."""
        if isinstance(task, type):
            task = task()
        if not getattr(task, "name", None):
            raise ValueError(f"task class {type(task).__name__!r} must specify .name attribute")
        self[task.name] = task
        return task

    def unregister(self, name: Any) -> None:
        """Remove a task. Raises NotRegistered."""
        try:
            self.pop(getattr(name, "name", name))
        except KeyError as exc:
            raise NotRegistered(name) from exc

    def regular(self) -> dict[str, Any]:
        """The tasks that run when called."""
        return dict(self)

    def periodic(self) -> dict[str, Any]:
        """None: schedules are not tasks since Celery 5."""
        return {}
