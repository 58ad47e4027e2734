"""The worker's flags as data: Celery's names and short forms, PyQS's, and what those without meaning on SQS are told.

Celery's: https://docs.celeryq.dev/en/stable/reference/cli.html#celery-worker
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
Section = Literal["Tasks", "Queues", "Daemon", "Beat", "Health", "PyQS", "Without effect on SQS"]


@dataclass(frozen=True, slots=True)
class Flag:
    """One option: its names (last: the parameter), section of the help, text, type, and whether it takes no value.

    ``no_effect`` says why the flag is accepted but changes nothing; the worker says so once at debug level.
    """

    names: tuple[str, ...]
    section: Section
    help: str
    type: Any = None
    switch: bool = False
    multiple: bool = False
    no_effect: str | None = None

    @property
    def parameter(self) -> str:
        """The name under which click hands the value on."""
        return self.names[-1]


LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "FATAL")

WORKER_FLAGS: tuple[Flag, ...] = (
    Flag(("-c", "--concurrency", "concurrency"), "Tasks", "How many tasks run at once, or 'auto'. Default: one a CPU."),
    Flag(("-P", "--pool", "pool"), "Tasks", "prefork (default), threads or solo; gevent and eventlet run as threads."),
    Flag(("-l", "--loglevel", "--log-level", "--log_level", "loglevel"), "Tasks", "Default: WARNING."),
    Flag(("-n", "--hostname", "hostname"), "Tasks", "Node name: %h host, %n name, %d domain. Default: celery@%h."),
    Flag(("-I", "--include", "include"), "Tasks", "More modules to import, separated by commas.", multiple=True),
    Flag(("--time-limit", "time_limit"), "Tasks", "Seconds after which a task is killed.", click.FloatRange(min=0)),
    Flag(
        ("--soft-time-limit", "soft_time_limit"),
        "Tasks",
        "Seconds after which a task gets SoftTimeLimitExceeded.",
        click.FloatRange(min=0),
    ),
    Flag(
        ("--max-tasks-per-child", "--maxtasksperchild", "max_tasks_per_child"),
        "Tasks",
        "Replace a child after so many tasks.",
        click.IntRange(min=1),
    ),
    Flag(
        ("--max-memory-per-child", "--maxmemperchild", "max_memory_per_child"),
        "Tasks",
        "Replace a child that holds more KiB.",
        click.IntRange(min=1),
    ),
    Flag(("--autoscale", "autoscale"), "Tasks", "MAX,MIN: runs MAX slots; this release does not scale by itself."),
    Flag(
        ("-Q", "--queues", "queues"),
        "Queues",
        "Names and patterns such as 'email.*', separated by commas; NAME:WEIGHT for a larger share, NAME=LIMIT for at most "
        "so many tasks at once.",
        multiple=True,
    ),
    Flag(
        ("--queue-order", "queue_order"),
        "Queues",
        "What the weights of -Q mean: turns (weighted, default), or the larger before the smaller (strict).",
        click.Choice(["weighted", "strict"]),
    ),
    Flag(("-X", "--exclude-queues", "exclude_queues"), "Queues", "Names and patterns not to take from.", multiple=True),
    Flag(
        ("--prefetch-multiplier", "prefetch_multiplier"),
        "Queues",
        "Messages held for each slot.",
        click.IntRange(min=0),
    ),
    Flag(("--disable-prefetch", "disable_prefetch"), "Queues", "Hold only what runs.", switch=True),
    Flag(("--create-queues", "create_queues"), "Queues", "Create the named queues that do not exist.", switch=True),
    Flag(("--purge", "--discard", "purge"), "Queues", "Delete all waiting messages first. No undo.", switch=True),
    Flag(
        ("-f", "--logfile", "logfile"), "Daemon", "Log to this file, not to standard error: %n node, %h host, %p both."
    ),
    Flag(("--pidfile", "pidfile"), "Daemon", "Write the process id here; refuse to start while its owner lives."),
    Flag(("-D", "--detach", "detach"), "Daemon", "Go to the background.", switch=True),
    Flag(("--uid", "uid"), "Daemon", "User, by name or number, to become."),
    Flag(("--gid", "gid"), "Daemon", "Group, by name or number, to become."),
    Flag(("--umask", "umask"), "Daemon", "Octal umask."),
    Flag(("--health-port", "health_port"), "Health", "Answer probes by HTTP on this port.", click.IntRange(0, 65535)),
    Flag(("--health-host", "health_host"), "Health", "Listen for them on this address. Default: 127.0.0.1."),
    Flag(("--health-file", "health_file"), "Health", "Keep the worker's health in this file."),
    Flag(
        ("--control-dir", "control_dir"),
        "Health",
        "The folder for this worker's control socket, closed to other users.",
    ),
    Flag(
        ("--exit-when-idle", "exit_when_idle"),
        "Health",
        "End after so many seconds without a message.",
        click.FloatRange(min=0, min_open=True),
    ),
    Flag(
        ("--ecs-task-protection", "ecs_task_protection"),
        "Health",
        "Have ECS spare this task from scale-in while it is busy.",
        switch=True,
    ),
    Flag(("--simple-worker", "simple_worker"), "PyQS", "Fetch nothing that no child is free to run.", switch=True),
    Flag(("--batchsize", "batch_size"), "PyQS", "Most messages a request may bring: 1 to 10.", click.IntRange(1, 10)),
    Flag(("--region", "region"), "PyQS", "AWS region."),
    Flag(("--access-key-id", "access_key_id"), "PyQS", "AWS access key; better left to AWS's own chain."),
    Flag(("--secret-access-key", "secret_access_key"), "PyQS", "AWS secret key; visible to other users in ps."),
    Flag(("--endpoint-url", "endpoint_url"), "PyQS", "Where SQS is, if not at AWS."),
    Flag(
        ("--interval", "interval"),
        "PyQS",
        "Seconds between polls.",
        float,
        no_effect="polls wait at SQS, there is no pause between them",
    ),
    Flag(
        ("-O", "--optimization", "optimization"),
        "Without effect on SQS",
        "default or fair.",
        click.Choice(["default", "fair"]),
        no_effect="a message only ever goes to a free child, which is what -O fair asks for",
    ),
    Flag(
        ("-E", "--events", "--task-events", "task_events"),
        "Without effect on SQS",
        "Send task events.",
        switch=True,
        no_effect="SQS has no fan-out for events",
    ),
    Flag(
        ("--without-gossip", "without_gossip"),
        "Without effect on SQS",
        "No gossip.",
        switch=True,
        no_effect="SQS workers do not gossip",
    ),
    Flag(
        ("--without-mingle", "without_mingle"),
        "Without effect on SQS",
        "No mingling.",
        switch=True,
        no_effect="SQS workers do not mingle",
    ),
    Flag(
        ("--without-heartbeat", "without_heartbeat"),
        "Without effect on SQS",
        "No event heartbeats.",
        switch=True,
        no_effect="SQS has no fan-out for event heartbeats; leases are renewed all the same",
    ),
    Flag(
        ("--heartbeat-interval", "heartbeat_interval"),
        "Without effect on SQS",
        "Seconds between event heartbeats.",
        int,
        no_effect="SQS has no fan-out for event heartbeats",
    ),
    Flag(
        ("-S", "--statedb", "statedb"),
        "Without effect on SQS",
        "File for revoked tasks.",
        no_effect="revocations cannot reach a worker over SQS",
    ),
    Flag(
        ("--executable", "executable"),
        "Without effect on SQS",
        "Python of the detached process.",
        no_effect="the detached worker is this very process",
    ),
    Flag(
        ("--pool-start-method", "pool_start_method"),
        "Without effect on SQS",
        "How children start.",
        no_effect="children are forked by a process with one thread, which is safe",
    ),
)

BEAT_FLAGS: tuple[Flag, ...] = (
    Flag(("-B", "--beat", "beat"), "Beat", "Run beat inside this worker; in one worker only.", switch=True),
    Flag(("-s", "--schedule", "--schedule-filename", "schedule"), "Beat", "The file that remembers what has run."),
    Flag(("--scheduler", "scheduler"), "Beat", "The scheduler's class, as module:Class."),
)
ALL_FLAGS = WORKER_FLAGS + BEAT_FLAGS


def worker_options(command: Command) -> Command:
    """Decorate a click command with every worker flag."""
    for flag in reversed(ALL_FLAGS):
        extra: dict[str, Any] = {"is_flag": True, "default": None} if flag.switch else {"type": flag.type}
        command = click.option(*flag.names, help=flag.help, multiple=flag.multiple, **extra)(command)
    return command


def no_flags() -> dict[str, Any]:
    """Every worker flag as if it had not been given."""
    return {flag.parameter: () if flag.multiple else None for flag in ALL_FLAGS}


def notes_on(given: dict[str, Any]) -> list[str]:
    """One line for each flag in ``given`` (parameter to value) that changes nothing here."""
    return [
        f"{_longest(flag)} has no effect here: {flag.no_effect}"
        for flag in ALL_FLAGS
        if flag.no_effect and given.get(flag.parameter) is not None
    ]


def _longest(flag: Flag) -> str:
    return next(name for name in flag.names if name.startswith("--"))
