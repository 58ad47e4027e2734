"""Settings and tasks turned into the policies that the core decides by.

A message is deleted after its task succeeded unless the application says otherwise; whatever it says explicitly wins,
and ``sqs_delivery = "celery"`` turns all defaults to Celery's at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from pyqs_celery.app.options import acks_late, starts_per_second
from pyqs_celery.broker.config import BrokerConfig
from pyqs_celery.broker.delivery import QueueInfo
from pyqs_celery.broker.queues import dead_letter_name, is_pattern, matches
from pyqs_celery.wire.envelope import LONGEST_NAME
from pyqs_celery.wire.message import Head
from pyqs_celery.worker.config import WorkerConfig
from pyqs_celery.worker.core.values import CoreConfig, QueuePolicy, TaskPolicy

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery

SHORTEST_LEASE_SECONDS = 5
"""A visibility timeout shortens leases, but not below what renewing them in time needs."""
DEFAULT_LEASE_SECONDS = 60
LONGEST_UNASKED_SECONDS = 120
"""What ``visibility_timeout`` of the transport options may make of a lease. Celery's users set it to hours, since Celery renews
nothing; here it would only keep a dead worker's messages hidden for hours."""


def core_config(config: WorkerConfig, *, keeps_results: bool = False) -> CoreConfig:
    """What the core needs to know of how the worker was started, and whether its application keeps results."""
    return CoreConfig(
        concurrency=config.concurrency,
        prefetch_multiplier=config.prefetch_multiplier,
        simple=config.simple,
        open_polls=config.open_polls,
        ack_before_run_waits=config.ack_before_run_waits,
        shutdown_timeout=config.shutdown_timeout,
        soft_shutdown_timeout=config.soft_shutdown_timeout,
        reject_delay_seconds=float(config.wait_time_seconds),
        keeps_results=keeps_results,
    )


def queue_policy(info: QueueInfo, config: WorkerConfig, broker: BrokerConfig, dead_letters: Any) -> QueuePolicy:
    """How one queue is served. ``dead_letters`` is the setting ``sqs_dead_letter_queue``."""
    lease = lease_seconds(config.lease_seconds, broker.visibility_timeout, info.visibility_timeout_seconds)
    target = dead_letter_name(info.name, dead_letters)
    if info.redrive is not None and target is not None:
        target = info.redrive.dead_letter_name
    prefix, strict = broker.queue_name_prefix, config.queue_order == "strict"
    weight = _of_queue(config.weights, info, prefix) or 1
    return QueuePolicy(
        info.name,
        info.logical,
        fifo=info.fifo,
        lease_seconds=lease,
        visibility_timeout_seconds=info.visibility_timeout_seconds,
        max_receive_count=info.redrive.max_receive_count if info.redrive else None,
        dead_letter_queue=target,
        max_deliveries=config.max_deliveries,
        backoff=info.backoff_policy,
        backoff_tasks=info.backoff_tasks,
        concurrency=_of_queue(config.queue_concurrency, info, prefix),
        weight=1 if strict else weight,
        rank=weight if strict else 0,
    )


def _of_queue(table: Mapping[str, int], info: QueueInfo, prefix: str) -> int | None:
    """A queue's own entry, else that of the first pattern that means it."""
    found = table.get(info.logical, table.get(info.name))
    if found is not None:
        return found
    meant = (number for name, number in table.items() if is_pattern(name) and matches(name, info.name, prefix))
    return next(meant, None)


def lease_seconds(wanted: int | None, option: int | None, own: int) -> int:
    """How long a receipt hides a message of a queue whose ``own`` visibility timeout this is.

    ``wanted`` is ``worker_lease_seconds``, which holds if it is set. Then ``option`` does, the transport options'
    ``visibility_timeout``, up to two minutes. If neither is set it is a minute, or ``own`` if that is shorter.
    """
    if wanted is not None:
        return max(1, wanted)
    if option is not None:
        return max(SHORTEST_LEASE_SECONDS, min(LONGEST_UNASKED_SECONDS, option))
    return max(SHORTEST_LEASE_SECONDS, min(DEFAULT_LEASE_SECONDS, own))


def may_import(path: str, patterns: tuple[str, ...]) -> bool:
    """True if a message may cause the module of ``path`` to be imported: only below what the worker was started with.

    Names with two leading underscores (``shop.__main__``) are never meant: importing such a module runs a program. A pattern
    that begins with a wildcard (``*``) opens nothing, since it would open all of Python.
    """
    parts = path.split(".")
    if len(path) > LONGEST_NAME or not all(part.isidentifier() and not part.startswith("__") for part in parts):
        return False
    named = (pattern for pattern in patterns if pattern[:1].isidentifier())
    return any(fnmatchcase(path, pattern) or path.startswith(f"{pattern}.") for pattern in named)


class TaskPolicies:
    """From a message's head to how its deliveries are treated."""

    def __init__(self, app: Celery, config: WorkerConfig) -> None:
        self._app = app
        self._config = config
        self._known: dict[str, TaskPolicy] = {}
        self._unknown = TaskPolicy(known=False)
        self._sealed = TaskPolicy(
            acks_late=True,
            hard_time_limit=config.time_limit,
            soft_time_limit=config.soft_time_limit,
        )

    def __call__(self, head: Head) -> TaskPolicy:
        """The policy for one."""
        if head.sealed:
            return self._sealed
        name = head.task or ""
        found = self._known.get(name)
        if found is not None:
            return found
        task = self._app.tasks.get(name)
        if task is not None:
            found = self._known[name] = policy_of(task, self._app.conf, self._config)
            return found
        if head.protocol == "pyqs" and may_import(name, self._config.import_patterns):
            return TaskPolicy(known=False, importable=True)
        return self._unknown

    def forget(self, name: str) -> None:
        """A task's attributes have changed: read them anew."""
        self._known.pop(name, None)


def policy_of(task: Any, conf: Any, config: WorkerConfig) -> TaskPolicy:
    """A task's own attributes, then the settings, then the defaults of the delivery mode."""
    celery = conf.sqs_delivery == "celery"
    both = _first(task.acks_on_failure_or_timeout, conf.task_acks_on_failure_or_timeout)
    return TaskPolicy(
        acks_late=acks_late(task, conf),
        ack_on_failure=bool(_first(task.acks_on_failure, both, conf.task_acks_on_failure, celery)),
        ack_on_timeout=bool(_first(task.acks_on_timeout, both, conf.task_acks_on_timeout, celery)),
        reject_on_worker_lost=bool(_first(task.reject_on_worker_lost, conf.task_reject_on_worker_lost, not celery)),
        hard_time_limit=_first(task.time_limit, config.time_limit),
        soft_time_limit=_first(task.soft_time_limit, config.soft_time_limit),
        rate_limit=None if conf.worker_disable_rate_limits else starts_per_second(task.rate_limit),
    )


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def describe(policy: QueuePolicy) -> str:
    """One line for the banner: what will happen on this queue."""
    kind = "FIFO" if policy.fifo else "standard"
    if policy.max_receive_count is not None:
        failure = f"a failed task comes back after {policy.visibility_timeout_seconds:g}s, and SQS moves it to "
        failure += f"{policy.dead_letter_queue or 'its dead-letter queue'} after {policy.max_receive_count} receipts"
    elif policy.dead_letter_queue is not None:
        failure = f"a failed task comes back after {policy.visibility_timeout_seconds:g}s, and we move it to "
        failure += f"{policy.dead_letter_queue} at its {policy.max_deliveries}th failure"
    else:
        failure = "a failed task comes back ever later, up to 12 hours (no dead-letter queue)"
    most = f"; at most {policy.concurrency} at once" if policy.concurrency is not None else ""
    return f"{policy.logical} ({policy.name}, {kind}): lease {policy.lease_seconds:g}s; {failure}{most}"
