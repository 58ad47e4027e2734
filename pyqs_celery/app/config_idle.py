"""Settings of Celery's that change nothing on SQS: why, what to do instead, and what their defaults are.

Names and defaults: https://docs.celeryq.dev/en/stable/userguide/configuration.html
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Idle(NamedTuple):
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
        "remote control needs no queue here: a worker answers on a socket of its host, and beat is not asked",
        {
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
        "a worker runs --autoscale's larger number and does not scale by itself; see pool_grow and pool_shrink",
        {"worker_autoscaler": "celery.worker.autoscale:Autoscaler"},
    ),
    Idle(
        "pool_restart always works",
        {"worker_pool_restarts": False},
    ),
    Idle(
        "revocations are not kept in a file",
        {"worker_state_db": None},
        missed=True,
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
