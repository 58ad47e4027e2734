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

RETRY_POLICY = {"max_retries": 3, "interval_start": 0, "interval_max": 1, "interval_step": 0.2}

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
    ("task_publish_retry_policy", RETRY_POLICY, "dict", "Passed to signals.", "CELERY_TASK_PUBLISH_RETRY_POLICY"),
    ("task_queues", None, "any", "The queues a worker without -Q serves."),
    ("task_reject_on_worker_lost", None, "flag", "False deletes the message of a task whose process died."),
    ("task_remote_tracebacks", False, "flag", "Kept for Celery's configuration files."),
    ("task_routes", None, "any", "Which task goes to which queue."),
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
    ("result_accept_content", None, "any", "Serializers that results may use; None: accept_content."),
    ("result_backend_always_retry", False, "flag", "Retry a result store that fails."),
    ("result_backend_base_sleep_between_retries_ms", 10, "whole", "Milliseconds before the first such retry."),
    ("result_backend_max_retries", float("inf"), "number", "How often at most."),
    ("result_backend_max_sleep_between_retries_ms", 10000, "whole", "Milliseconds between them at most."),
    ("result_backend_transport_options", {}, "dict", "Options of the result back end."),
    ("result_cache_max", -1, "any", "How many results a client remembers.", "CELERY_MAX_CACHED_RESULTS"),
    ("result_chord_expires", None, "any", "How long a chord's counter is kept."),
    ("result_chord_join_timeout", 3.0, "number", "Seconds to wait for a chord's results."),
    ("result_chord_retry_interval", 1.0, "number", "Seconds between two looks at a chord."),
    ("result_compression", None, "any", "Compression of results."),
    ("result_failure_expires", None, "any", "How long failures are kept."),
    ("cache_backend", None, "any", "Django's cache for results, or a memcached URL."),
    ("cache_backend_options", {}, "dict", "Options of the memcached client."),
    ("database_url", None, "any", "SQLAlchemy's URL for results.", "CELERY_RESULT_DBURI"),
    (
        "database_engine_options",
        {"pool_pre_ping": True, "pool_recycle": 3600},
        "dict",
        "Options of SQLAlchemy's engine.",
        "CELERY_RESULT_ENGINE_OPTIONS",
    ),
    ("database_engine_callback", None, "any", "Called with the engine once it is made."),
    (
        "database_short_lived_sessions",
        False,
        "flag",
        "A new session for each statement.",
        "CELERY_RESULT_DB_SHORT_LIVED_SESSIONS",
    ),
    ("database_table_schemas", None, "any", "Schemas of the tables."),
    ("database_table_names", None, "any", "Names of the tables.", "CELERY_RESULT_DB_TABLENAMES"),
    ("database_create_tables_at_setup", True, "flag", "Create the tables at start."),
    (
        "database_chord_counter",
        False,
        "flag",
        "Count chords in the database, not by celery.chord_unlock; only where all workers are pyqs-celery's.",
    ),
    ("redis_backend_use_ssl", None, "any", "TLS options of Redis."),
    ("redis_db", None, "any", "Database number of Redis."),
    ("redis_host", None, "any", "Host of Redis."),
    ("redis_port", None, "any", "Port of Redis."),
    ("redis_username", None, "any", "User of Redis."),
    ("redis_password", None, "any", "Password of Redis."),
    ("redis_max_connections", None, "any", "Connections to Redis at most."),
    ("redis_socket_timeout", 120.0, "number", "Seconds a command to Redis may take."),
    ("redis_socket_connect_timeout", None, "any", "Seconds a connection to Redis may take."),
    ("redis_retry_on_timeout", False, "flag", "Repeat a command to Redis that timed out."),
    ("redis_socket_keepalive", False, "flag", "TCP keep-alive to Redis."),
    ("redis_backend_health_check_interval", None, "any", "Seconds after which an idle connection to Redis is tried."),
    ("redis_backend_credential_provider", None, "any", "A redis.CredentialProvider, or its class's name."),
    ("redis_client_name", None, "any", "What Redis calls the connections."),
    ("dynamodb_endpoint_url", None, "any", "Where DynamoDB is, if not at AWS."),
    ("s3_access_key_id", None, "any", "AWS key for results on S3."),
    ("s3_secret_access_key", None, "any", "AWS secret for results on S3."),
    ("s3_bucket", None, "any", "The bucket of results."),
    ("s3_base_path", None, "any", "Where in the bucket."),
    ("s3_endpoint_url", None, "any", "Where S3 is, if not at AWS."),
    ("s3_region", None, "any", "The bucket's region."),
    ("security_certificate", None, "any", "PEM file of the certificate that signs messages."),
    ("security_key", None, "any", "PEM file of its private key."),
    ("security_key_password", None, "any", "The password of that file."),
    ("security_digest", "sha256", "text", "The digest of signatures."),
    ("beat_schedule", {}, "dict", "Periodic tasks by name.", "CELERYBEAT_SCHEDULE"),
    (
        "beat_scheduler",
        "celery.beat:PersistentScheduler",
        "any",
        "The scheduler's class, as module:Class.",
        "CELERYBEAT_SCHEDULER",
    ),
    (
        "beat_schedule_filename",
        "celerybeat-schedule",
        "text",
        "The file that remembers when each entry last ran.",
        "CELERYBEAT_SCHEDULE_FILENAME",
    ),
    (
        "beat_max_loop_interval",
        0,
        "number",
        "Seconds beat sleeps at most; 0: the scheduler's own (300).",
        "CELERYBEAT_MAX_LOOP_INTERVAL",
    ),
    (
        "beat_sync_every",
        0,
        "whole",
        "Write the schedule file after so many tasks; 0: every 3 minutes.",
        "CELERYBEAT_SYNC_EVERY",
    ),
    (
        "beat_cron_starting_deadline",
        None,
        "any",
        "Seconds within which a missed crontab time is made up for.",
        "CELERYBEAT_CRON_STARTING_DEADLINE",
    ),
    ("task_allow_error_cb_on_chord_header", False, "flag", "link_error of a chord goes to its header too."),
    ("task_repr_maxlevels", 3, "whole", "How deep argsrepr shows arguments.", "CELERY_REPR_MAXLEVELS"),
    ("worker_disable_prefetch", False, "flag", "Hold only what runs.", "CELERYD_DISABLE_PREFETCH"),
    ("worker_disable_rate_limits", False, "flag", "No task's rate_limit holds.", "CELERY_DISABLE_RATE_LIMITS"),
    ("worker_log_datefmt", None, "any", "The format of times in log lines.", "CELERYD_LOG_DATEFMT"),
    ("worker_task_log_datefmt", None, "any", "The format of times in tasks' lines.", "CELERYD_TASK_LOG_DATEFMT"),
    # ours
    (
        "sqs_retry",
        "message",
        "text",
        "message: a retry is a new message; native: the same one comes back by visibility.",
    ),
    ("beat_lock_queue", None, "any", "An SQS FIFO queue that lets one beat tick at a time."),
    ("beat_lock_seconds", 60, "whole", "How long a beat that died keeps the others waiting."),
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


@dataclass(frozen=True, slots=True)
class Idle:
    """Settings of Celery's that change nothing here: their defaults, why, and whether somebody may miss what they did."""

    reason: str
    defaults: dict[str, Any]
    missed: bool = False


IDLE_SETTINGS: tuple[Idle, ...] = (
    Idle(
        "SQS is the only transport; MessageGroupId and DelaySeconds are options of apply_async here",
        {"broker_transport": None},
    ),
    Idle(
        "boto3 keeps its own connections, times them out and tries again; nothing is to be set",
        {
            "broker_pool_limit": 10,
            "broker_pool_acquire_timeout": None,
            "broker_heartbeat": 120,
            "broker_heartbeat_checkrate": 3.0,
            "broker_connection_timeout": 4,
            "broker_connection_retry": True,
            "broker_connection_retry_on_startup": None,
            "broker_connection_max_retries": 100,
            "broker_channel_error_retry": False,
            "broker_failover_strategy": None,
            "broker_login_method": None,
            "broker_native_delayed_delivery_queue_type": "quorum",
            "worker_cancel_long_running_tasks_on_connection_loss": False,
            "worker_enable_prefetch_count_reduction": True,
            "worker_detect_quorum_queues": True,
        },
    ),
    Idle(
        "write it into broker_url: sqs://KEY:SECRET@host:port",
        dict.fromkeys(("broker_host", "broker_port", "broker_user", "broker_password", "broker_vhost")),
        missed=True,
    ),
    Idle(
        "SQS has no fan-out for remote control; signals, AWS's console and restarts do what it did",
        {
            "worker_enable_remote_control": True,
            "beat_enable_remote_control": False,
            "beat_remote_control_max_tick_age": None,
            "control_queue_ttl": 300.0,
            "control_queue_expires": 10.0,
            "control_queue_exclusive": True,
            "control_queue_durable": False,
            "control_exchange": "celery",
        },
    ),
    Idle(
        "SQS has no fan-out for events; read the worker's log, or connect to its signals",
        {
            "worker_send_task_events": False,
            "task_send_sent_event": False,
            "event_queue_expires": 60.0,
            "event_queue_ttl": 5.0,
            "event_queue_prefix": "celeryev",
            "event_queue_exclusive": True,
            "event_queue_durable": False,
            "event_serializer": "json",
            "event_exchange": "celeryev",
        },
    ),
    Idle(
        "SQS has neither exchanges nor queue types",
        {
            "task_create_missing_queue_type": "classic",
            "task_create_missing_queue_exchange_type": None,
            "task_default_queue_type": "classic",
            "task_default_exchange_type": "direct",
            "result_exchange": "celeryresults",
            "result_exchange_type": "direct",
            "result_persistent": None,
        },
    ),
    Idle(
        "SQS has no priorities: use a queue for each, and -Q high:10,low:1",
        {"task_queue_max_priority": None},
        missed=True,
    ),
    Idle(
        "every worker takes from the queues it names; give this worker a queue of its own with -Q",
        {"worker_direct": False},
        missed=True,
    ),
    Idle(
        "the worker's consumer, timer and pool are its own",
        {
            "worker_agent": None,
            "worker_consumer": "celery.worker.consumer:Consumer",
            "worker_timer": None,
            "worker_timer_precision": 1.0,
            "worker_pool_putlocks": True,
            "worker_pool_start_method": "fork",
            "worker_proc_alive_timeout": 4.0,
            "worker_lost_wait": 10.0,
            "worker_eta_task_limit": None,
            "worker_enable_soft_shutdown_on_idle": False,
        },
    ),
    Idle(
        "slots are not added or taken away while a worker runs; -c or --autoscale's larger number is their number",
        {"worker_autoscaler": "celery.worker.autoscale:Autoscaler", "worker_pool_restarts": False},
    ),
    Idle(
        "revocations are not kept in a file",
        {"worker_state_db": None},
        missed=True,
    ),
    Idle(
        "the message of a task that succeeded is deleted, and a copy of one in hand is dropped",
        {"worker_deduplicate_successful_tasks": False},
    ),
    Idle(
        "the message of a task whose process died comes back by itself",
        {"task_retry_on_worker_lost": False},
    ),
    Idle(
        "there is no such result back end here; use Redis, DynamoDB, S3, SQLAlchemy or memcached",
        {
            "cassandra_auth_kwargs": None,
            "cassandra_auth_provider": None,
            "cassandra_bundle_path": None,
            "cassandra_entry_ttl": None,
            "cassandra_keyspace": None,
            "cassandra_options": {},
            "cassandra_port": None,
            "cassandra_read_consistency": None,
            "cassandra_servers": None,
            "cassandra_table": None,
            "cassandra_write_consistency": None,
            "azureblockblob_base_path": "",
            "azureblockblob_connection_timeout": 20,
            "azureblockblob_container_name": "celery",
            "azureblockblob_read_timeout": 120,
            "azureblockblob_retry_increment_base": 2,
            "azureblockblob_retry_initial_backoff_sec": 2,
            "azureblockblob_retry_max_attempts": 3,
            "gcs_base_path": "",
            "gcs_bucket": None,
            "gcs_project": None,
            "gcs_ttl": 0.0,
            "couchbase_backend_settings": None,
            "arangodb_backend_settings": None,
            "mongodb_backend_settings": None,
            "cosmosdbsql_collection_name": "celerycol",
            "cosmosdbsql_consistency_level": "Session",
            "cosmosdbsql_database_name": "celerydb",
            "cosmosdbsql_max_retry_attempts": 9,
            "cosmosdbsql_max_retry_wait_time": 30,
            "elasticsearch_max_retries": None,
            "elasticsearch_retry_on_timeout": None,
            "elasticsearch_save_meta_as_text": True,
            "elasticsearch_timeout": None,
        },
        missed=True,
    ),
)

WITHOUT_EFFECT: dict[str, str] = {name: idle.reason for idle in IDLE_SETTINGS for name in idle.defaults}
"""Celery's settings that mean nothing here, and why; they are accepted."""
MISSED: frozenset[str] = frozenset(name for idle in IDLE_SETTINGS if idle.missed for name in idle.defaults)
"""Those of them that a worker warns of; of the others it only speaks at info level."""
IDLE_DEFAULTS: dict[str, Any] = {name: value for idle in IDLE_SETTINGS for name, value in idle.defaults.items()}
