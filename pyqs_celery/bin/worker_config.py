"""Flags and settings folded into one WorkerConfig. Pure: what the machine says is passed in."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast, get_args

from pyqs_celery.bin.errors import UsageError
from pyqs_celery.bin.options import LOG_LEVELS
from pyqs_celery.broker.limits import WAIT_SECONDS
from pyqs_celery.utils.nodenames import node_name
from pyqs_celery.worker.config import PoolName, QueueOrder, WorkerConfig

POOLS = {"prefork": "prefork", "processes": "prefork", "threads": "threads", "solo": "solo"}
GREEN_POOLS = ("gevent", "eventlet")
"""Run as threads: greenlets would need a patched socket module below boto3, and tasks gain nothing that threads lack."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a worker must know of where it runs."""

    host: str
    cpus: int


class NamedQueues(NamedTuple):
    """What ``-Q`` names: queues and patterns, and of some of them the weight and how many slots they may use."""

    names: tuple[str, ...]
    weights: dict[str, int]
    limits: dict[str, int]


def worker_name(pattern: str | None, machine: Machine) -> str:
    """The node name that ``-n`` gives. Raises UsageError."""
    try:
        return node_name(pattern, machine.host)
    except ValueError as exc:
        raise UsageError(f"-n: {exc}") from exc


def queue_names(values: Iterable[str]) -> NamedQueues:
    """Take ``a,b:10,c=2,d:10=2`` lists apart. Raises UsageError for a weight or limit that is no whole number above 0."""
    names: dict[str, None] = {}
    weights: dict[str, int] = {}
    limits: dict[str, int] = {}
    for item in (part.strip() for value in values for part in value.split(",")):
        parts = re.fullmatch(r"([^:=]*)(?::([^:=]*))?(?:=([^:=]*))?", item)
        if parts is None:
            raise UsageError(f"-Q {item}: write NAME, NAME:WEIGHT, NAME=LIMIT or NAME:WEIGHT=LIMIT")
        name, weight, limit = parts.groups()
        if weight is not None:
            weights[name] = _whole(item, "weight after ':'", weight)
        if limit is not None:
            limits[name] = _whole(item, "limit after '='", limit)
        if name:
            names[name] = None
    return NamedQueues(tuple(names), weights, limits)


def _whole(item: str, what: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise UsageError(f"-Q {item}: the {what} must be a whole number of at least 1")
    return int(text)


def queue_order(given: str | None, setting: str) -> QueueOrder:
    """What the weights of ``-Q`` mean: a flag, else the setting. Raises UsageError for anything else than the two."""
    wanted = setting if given is None else given
    if wanted not in get_args(QueueOrder):
        raise UsageError(f"worker_queue_order {wanted!r}: it is weighted or strict")
    return cast("QueueOrder", wanted)


WORDS = {"sqs_delivery": ("pyqs", "celery"), "sqs_retry": (None, "message", "native")}
"""Settings that are read where tasks run, and what they may say."""


def check_words(conf: Any) -> None:
    """Raises UsageError for a setting that says none of what it may: it would mean its default without a word."""
    for name, words in WORDS.items():
        said = getattr(conf, name)
        if said not in words:
            raise UsageError(f"{name} is {said!r}; it may be {' or '.join(repr(word) for word in words if word)}")


def open_polls(setting: int | None, order: QueueOrder) -> int | None:
    """``worker_open_polls``. Raises UsageError for less than one, and beside a strict order.

    Whether a lower queue may be served is known only while all higher ones are polled.
    """
    if setting is not None and setting < 1:
        raise UsageError(
            f"worker_open_polls {setting}: with none open no message comes; it is 1 or more, or None for all"
        )
    if setting is not None and order == "strict":
        raise UsageError(
            "worker_open_polls and --queue-order strict: whether a higher queue is empty only its own poll tells"
        )
    return setting


def pool_name(given: str) -> PoolName:
    """The pool a person named. Raises UsageError for one there is not."""
    if given in GREEN_POOLS:
        return "threads"
    if given not in POOLS:
        raise UsageError(f"-P {given}: no such pool; there are prefork, threads and solo")
    return cast("PoolName", POOLS[given])


def concurrency(given: Any, pool: str, cpus: int) -> int:
    """The number of slots: a number, ``auto`` or None (one a CPU). Raises UsageError if it is neither."""
    if pool == "solo":
        return 1
    if given in (None, "", "auto", 0, "0"):
        return cpus
    try:
        number = int(given)
    except (TypeError, ValueError):
        number = 0
    if number < 1:
        raise UsageError(f"-c {given}: concurrency is a whole number of at least 1, or auto")
    return number


def log_level(given: str | int) -> int:
    """A level by name in any case, or by number. Raises UsageError for an unknown one."""
    text = str(given).strip().upper()
    if text.isdigit():
        return int(text)
    if text == "WARN":
        text = "WARNING"
    if text not in LOG_LEVELS:
        raise UsageError(f"-l {given}: no such log level; there are {', '.join(LOG_LEVELS)}")
    return int(getattr(logging, text))


def autoscale_maximum(given: str) -> int:
    """The larger number of ``--autoscale=MAX,MIN``, in either order as in Celery. Raises UsageError if it has none."""
    try:
        return max(int(part) for part in given.split(","))
    except ValueError:
        raise UsageError(f"--autoscale {given}: write the most and the fewest slots, as in --autoscale=10,3") from None


def import_patterns(app_spec: str | None, modules: Iterable[str], queues: Iterable[str]) -> tuple[str, ...]:
    """Globs of the dotted paths a PyQS-native message may name: what the worker was started with, and nothing else."""
    patterns: dict[str, None] = {}
    roots = [app_spec.partition(":")[0].partition(".")[0]] if app_spec else []
    for root in (*roots, *modules):
        patterns[root] = None
        patterns[f"{root}.*"] = None
    patterns.update(dict.fromkeys(queues))
    return tuple(patterns)


def build(
    conf: Any, given: Mapping[str, Any], names: Iterable[str], machine: Machine, *, app_spec: str | None
) -> WorkerConfig:
    """The worker's configuration. ``names`` are queues given PyQS's way, without a flag. Raises UsageError."""
    queues, weights, limits = queue_names((*given["queues"], *names))
    excluded = queue_names(given["exclude_queues"]).names
    pool = pool_name(_either(given["pool"], conf.worker_pool))
    slots = given["concurrency"]
    if slots is None and given["autoscale"]:
        slots = autoscale_maximum(given["autoscale"])
    if slots is None:
        # PyQS runs one worker process unless told otherwise; its command line names queues and no application.
        slots = conf.worker_concurrency or (1 if names and not app_spec else None)
    check_words(conf)
    order = queue_order(given["queue_order"], conf.worker_queue_order)
    simple = bool(given["simple_worker"] or given["disable_prefetch"] or conf.worker_disable_prefetch)
    modules = (*given["include"], *_texts(conf.include), *_texts(conf.imports))
    return WorkerConfig(
        queues=queues,
        exclude_queues=excluded,
        weights=weights,
        queue_order=order,
        concurrency=concurrency(slots, pool, machine.cpus),
        pool=pool,
        hostname=worker_name(given["hostname"], machine),
        loglevel=log_level(_either(given["loglevel"], "WARNING")),
        prefetch_multiplier=_either(given["prefetch_multiplier"], conf.worker_prefetch_multiplier),
        simple=simple,
        batch_size=1 if simple else _either(given["batch_size"], 10),
        wait_time_seconds=int((conf.broker_transport_options or {}).get("wait_time_seconds", WAIT_SECONDS)),
        open_polls=open_polls(conf.worker_open_polls, order),
        lease_seconds=conf.worker_lease_seconds,
        silence_timeout=conf.worker_silence_timeout,
        max_deliveries=conf.worker_max_deliveries,
        max_tasks_per_child=_either(given["max_tasks_per_child"], conf.worker_max_tasks_per_child),
        max_memory_per_child=_either(given["max_memory_per_child"], conf.worker_max_memory_per_child),
        time_limit=_either(given["time_limit"], conf.task_time_limit),
        soft_time_limit=_either(given["soft_time_limit"], conf.task_soft_time_limit),
        shutdown_timeout=conf.worker_shutdown_timeout,
        soft_shutdown_timeout=conf.worker_soft_shutdown_timeout,
        ack_before_run_waits=conf.worker_ack_before_run == "wait",
        create_queues=bool(given["create_queues"] or conf.task_create_missing_queues),
        queue_concurrency={**(conf.worker_queue_concurrency or {}), **limits},
        queue_refresh_seconds=conf.worker_queue_refresh_seconds,
        import_patterns=import_patterns(app_spec, modules, queues),
        purge=bool(given["purge"]),
        quiet=bool(given.get("quiet")),
        beat=bool(given["beat"]),
        beat_scheduler=given["scheduler"],
        beat_schedule=given["schedule"],
        **_supervision(conf, given),
    )


def _supervision(conf: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """What whoever runs the worker can see of it and tell it."""
    return {
        "remote_control": conf.worker_enable_remote_control,
        "control_folder": given["control_dir"],
        "health_port": _either(given["health_port"], conf.worker_health_port),
        "health_host": _either(given["health_host"], conf.worker_health_host),
        "health_file": _either(given["health_file"], conf.worker_health_file),
        "exit_when_idle": _either(given["exit_when_idle"], conf.worker_exit_when_idle),
        "ecs_task_protection": bool(given["ecs_task_protection"] or conf.worker_ecs_task_protection),
    }


def _either(flag: Any, setting: Any) -> Any:
    return setting if flag is None else flag


def _texts(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())
