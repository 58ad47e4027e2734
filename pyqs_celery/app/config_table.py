"""The settings, one row each: name, default, Celery's old name if it is not the plain one, and what it does here.

Names, defaults and old names: https://docs.celeryq.dev/en/stable/userguide/configuration.html
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. ``kind`` is what its value must be: text, number, whole, flag, list, dict or any."""

    name: str
    default: Any
    kind: str
    doc: str
    old: str | None = None


def _rows(*rows: tuple[Any, ...]) -> dict[str, Setting]:
    return {row[0]: Setting(*row) for row in rows}


PROCESS_LOG_FORMAT = "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s"
TASK_LOG_FORMAT = "[%(asctime)s: %(levelname)s/%(processName)s] %(task_name)s[%(task_id)s]: %(message)s"

SETTINGS: dict[str, Setting] = _rows(
    ("accept_content", ("json",), "list", "Serializers (names or content types) that messages may use."),
    ("broker_url", None, "any", "Where the queues are: sqs://, sqs://KEY:SECRET@host:port, memory://.", "BROKER_URL"),
    ("broker_read_url", None, "any", "broker_url for workers only.", "BROKER_READ_URL"),
    ("broker_write_url", None, "any", "broker_url for producers only.", "BROKER_WRITE_URL"),
    ("broker_use_ssl", None, "any", "https for a host given in broker_url.", "BROKER_USE_SSL"),
    ("broker_transport_options", {}, "dict", "Region, prefix, predefined queues ...", "BROKER_TRANSPORT_OPTIONS"),
    ("enable_utc", True, "flag", "Times in messages are UTC."),
    ("imports", (), "list", "Modules the worker imports at start."),
    ("include", (), "list", "More modules the worker imports at start."),
    ("timezone", None, "any", "The zone of the application's own times; None is UTC."),
    ("result_backend", None, "any", "Where results are kept; None keeps none."),
    ("result_serializer", "json", "text", "How results are written."),
    ("result_expires", timedelta(days=1), "any", "How long results are kept.", "CELERY_TASK_RESULT_EXPIRES"),
    ("result_extended", False, "flag", "Keep a task's name and arguments with its result."),
    ("security_cert_store", None, "any", "PEM files (a glob, or a list) that signed messages are verified with."),
    ("task_acks_late", None, "flag", "False deletes a message before its task runs; unset: only after it succeeded."),
    ("task_acks_on_failure_or_timeout", None, "flag", "True deletes the message of a failed task too."),
    ("task_acks_on_failure", None, "flag", "True deletes the message of a task that raised."),
    ("task_acks_on_timeout", None, "flag", "True deletes the message of a task that ran out of time."),
    ("task_always_eager", False, "flag", "Run tasks at the call instead of sending them."),
    ("task_eager_propagates", False, "flag", "Eager tasks raise.", "CELERY_EAGER_PROPAGATES_EXCEPTIONS"),
    ("task_store_eager_result", False, "flag", "Keep the results of eager tasks too."),
    ("task_annotations", None, "any", "Attributes to set on tasks by name."),
    ("task_compression", None, "any", "Compression of message bodies.", "CELERY_MESSAGE_COMPRESSION"),
    ("task_create_missing_queues", None, "flag", "Producers create queues (unset or True); True: workers do too."),
    ("task_default_queue", "celery", "text", "The queue of tasks that are routed nowhere."),
    ("task_default_exchange", None, "any", "Read for its name only; SQS has no exchanges."),
    ("task_default_routing_key", None, "any", "Read for its name only."),
    ("task_default_delivery_mode", 2, "any", "Written into messages; SQS always persists."),
    ("task_default_priority", None, "any", "Written into messages; SQS has no priorities."),
    ("task_default_rate_limit", None, "any", "The rate limit of tasks without one."),
    ("task_ignore_result", False, "flag", "Keep no results."),
    ("task_inherit_parent_priority", False, "flag", "Subtasks get the priority of their parent."),
    ("task_protocol", 2, "whole", "The message protocol to write: 1 or 2.", "CELERY_TASK_PROTOCOL"),
    ("task_publish_retry", True, "flag", "Retry a send that fails.", "CELERY_TASK_PUBLISH_RETRY"),
    ("task_publish_retry_policy", {}, "dict", "Passed to signals.", "CELERY_TASK_PUBLISH_RETRY_POLICY"),
    ("task_queues", None, "any", "The queues a worker without -Q serves."),
    ("task_reject_on_worker_lost", None, "flag", "False deletes the message of a task whose process died."),
    ("task_remote_tracebacks", False, "flag", "Kept for Celery's configuration files."),
    ("task_routes", None, "any", "Which task goes to which queue."),
    ("task_send_sent_event", False, "flag", "Accepted; SQS has no events."),
    ("task_serializer", "json", "text", "How arguments are written."),
    (
        "task_soft_time_limit",
        None,
        "number",
        "Seconds after which a task is told to end.",
        "CELERYD_TASK_SOFT_TIME_LIMIT",
    ),
    ("task_store_errors_even_if_ignored", False, "flag", "Keep the errors of tasks that ignore their results."),
    ("task_time_limit", None, "number", "Seconds after which a task is killed.", "CELERYD_TASK_TIME_LIMIT"),
    ("task_track_started", False, "flag", "Report the state STARTED."),
    ("worker_concurrency", None, "any", "How many tasks run at once; None: one a CPU.", "CELERYD_CONCURRENCY"),
    ("worker_hijack_root_logger", True, "flag", "Set the root logger's handlers up.", "CELERYD_HIJACK_ROOT_LOGGER"),
    ("worker_log_color", None, "any", "Colour in logs; None: on a terminal.", "CELERYD_LOG_COLOR"),
    ("worker_log_format", PROCESS_LOG_FORMAT, "text", "The format of log lines.", "CELERYD_LOG_FORMAT"),
    ("worker_task_log_format", TASK_LOG_FORMAT, "text", "The format of tasks' lines.", "CELERYD_TASK_LOG_FORMAT"),
    (
        "worker_max_memory_per_child",
        None,
        "any",
        "KiB after which a child is replaced.",
        "CELERYD_MAX_MEMORY_PER_CHILD",
    ),
    (
        "worker_max_tasks_per_child",
        None,
        "any",
        "Tasks after which a child is replaced.",
        "CELERYD_MAX_TASKS_PER_CHILD",
    ),
    ("worker_pool", "prefork", "text", "prefork, threads or solo.", "CELERYD_POOL"),
    (
        "worker_prefetch_multiplier",
        None,
        "any",
        "Messages held for each slot; unset: as many as keep it busy.",
        "CELERYD_PREFETCH_MULTIPLIER",
    ),
    ("worker_redirect_stdouts", True, "flag", "print() in tasks goes to the log.", "CELERY_REDIRECT_STDOUTS"),
    ("worker_redirect_stdouts_level", "WARNING", "text", "The level of such lines.", "CELERY_REDIRECT_STDOUTS_LEVEL"),
    (
        "worker_soft_shutdown_timeout",
        0.0,
        "number",
        "Seconds running tasks get at a cold stop.",
        "CELERYD_SOFT_SHUTDOWN_TIMEOUT",
    ),
    # ours
    ("sqs_delivery", "pyqs", "text", "pyqs: delete only after success; celery: Celery's defaults."),
    ("sqs_dead_letter_queue", None, "any", "Where hopeless messages go: a name with {queue}; False forbids."),
    ("worker_lease_seconds", 60, "whole", "How long a receipt hides a message before it is renewed."),
    ("worker_max_deliveries", 5, "whole", "Failed deliveries after which we move a message ourselves."),
    ("worker_shutdown_timeout", 25.0, "number", "Seconds running tasks get at a warm stop."),
    ("worker_queue_refresh_seconds", 30.0, "number", "How often a worker looks for queues that match its patterns."),
    ("worker_ack_before_run", "nowait", "text", "nowait or wait: early acks wait for the deletion."),
    ("worker_queue_concurrency", {}, "dict", "How many slots a queue may use at most."),
    ("pickle_allowed_classes", None, "any", "Globs of the classes that a pickle may name."),
)

WITHOUT_EFFECT = {
    "broker_transport": "SQS is the only transport; MessageGroupId and DelaySeconds are options of apply_async here",
    "broker_pool_limit": "boto3 keeps its own connections",
    "broker_heartbeat": "SQS has no connection to keep alive",
    "broker_connection_retry": "the worker always goes on trying",
    "broker_connection_retry_on_startup": "the worker always goes on trying",
    "worker_enable_remote_control": "SQS has no fan-out for remote control",
    "worker_send_task_events": "SQS has no events",
    "worker_consumer": "the worker's plan is its own",
    "worker_state_db": "revocations are not kept in a file",
}
"""Celery's settings that mean nothing here, and why; they are accepted."""
