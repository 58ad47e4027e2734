"""``app.amqp``: the few facts of it that applications read, from the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery


class Queues(dict[str, Any]):
    """``kombu.Queue`` objects by name: what ``task_queues`` declares, or the default queue."""

    def __init__(self, app: Celery) -> None:
        from kombu.entity import Queue

        super().__init__()
        for queue in app.queue_objects() or [app.conf.task_default_queue]:
            made = queue if hasattr(queue, "routing_key") else Queue(str(queue), routing_key=str(queue))
            self[made.name] = made
        self.create_missing = app.conf.task_create_missing_queues is not False

    def __missing__(self, name: str) -> Any:
        from kombu.entity import Queue

        if not self.create_missing:
            raise KeyError(name)
        return Queue(name, routing_key=name)

    @property
    def consume_from(self) -> dict[str, Any]:
        """The queues a worker without ``-Q`` serves."""
        return dict(self)


class Amqp:
    """Stands where Celery keeps its AMQP factories."""

    def __init__(self, app: Celery) -> None:
        self.app = app

    @property
    def queues(self) -> Queues:
        """The declared queues by name."""
        return Queues(self.app)

    @property
    def routes(self) -> list[Any]:
        """``task_routes`` as functions."""
        return self.app.routes

    @property
    def default_queue(self) -> Any:
        """The queue of tasks that are routed nowhere."""
        return self.queues[self.app.conf.task_default_queue]

    def send_task_message(self, *args: Any, **kwargs: Any) -> None:
        """Raises NotImplementedError: messages are sent by ``app.send_task`` here."""
        raise NotImplementedError(
            "pyqs-celery sends without kombu's producers; use app.send_task(name, args, kwargs, ...)"
        )
