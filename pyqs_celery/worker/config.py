"""How one worker was started: settings and command line folded into one frozen value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pyqs_celery.broker.limits import WAIT_SECONDS
from pyqs_celery.worker.core.values import StopTimes

PoolName = Literal["prefork", "threads", "solo"]
QueueOrder = Literal["weighted", "strict"]


@dataclass(frozen=True, slots=True)
class WorkerConfig(StopTimes):
    """Everything the manager, consumer and children need to know. Durations in seconds.

    ``queues`` are names or globs as the user gave them; empty means the application's default
    consume set. ``weights`` come from ``-Q high:10,low:1``; ``queue_order`` says whether they are shares or ranks.
    ``queue_concurrency`` is how many slots a queue may use at most. Both are by name or pattern. ``import_patterns`` are globs
    a message's dotted path must match before a module is imported for it (PyQS-native messages).
    """

    queues: tuple[str, ...] = ()
    exclude_queues: tuple[str, ...] = ()
    weights: dict[str, int] = field(default_factory=dict)
    queue_order: QueueOrder = "weighted"
    concurrency: int = 1
    pool: PoolName = "prefork"
    hostname: str = "celery@localhost"
    loglevel: int = 30
    prefetch_multiplier: int | None = None
    simple: bool = False
    batch_size: int = 10
    wait_time_seconds: int = WAIT_SECONDS
    open_polls: int | None = None
    lease_seconds: int | None = None
    silence_timeout: float = 120.0
    max_deliveries: int = 5
    max_tasks_per_child: int | None = None
    max_memory_per_child: int | None = None  # KiB, as Celery
    time_limit: float | None = None
    soft_time_limit: float | None = None
    ack_before_run_waits: bool = False
    create_queues: bool = False
    queue_refresh_seconds: float = 30.0
    queue_concurrency: dict[str, int] = field(default_factory=dict)
    import_patterns: tuple[str, ...] = ()
    purge: bool = False
    quiet: bool = False
    remote_control: bool = True
    control_folder: str | None = None
    health_port: int | None = None
    health_host: str = "127.0.0.1"
    health_file: str | None = None
    exit_when_idle: float | None = None
    ecs_task_protection: bool = False
    beat: bool = False
    beat_scheduler: str | None = None
    beat_schedule: str | None = None
