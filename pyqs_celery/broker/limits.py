"""SQS's quotas, each with the AWS page it comes from."""

from __future__ import annotations

# AWS: Amazon SQS message quotas
BATCH_ENTRIES = 10
MAX_MESSAGE_BYTES = 1_048_576
OLD_MAX_MESSAGE_BYTES = 262_144
"""Queues made before 2025 may still carry this limit, so larger messages look at the queue's own."""
MAX_BATCH_BYTES = 1_048_576
MAX_MESSAGE_ATTRIBUTES = 10

# AWS: Amazon SQS message timers
MAX_DELAY_SECONDS = 900

# AWS: Amazon SQS visibility timeout
MAX_VISIBILITY_SECONDS = 43_200

# AWS: Amazon SQS short and long polling
MAX_WAIT_SECONDS = 20

# AWS: SetQueueAttributes, MessageRetentionPeriod
MAX_RETENTION_SECONDS = 1_209_600
"""14 days: what a dead-letter queue of ours gets."""

# Ours, see docs/reliability: how long a call may take before it counts as failed
WAIT_SECONDS = 12
"""How long a poll of an empty queue waits by default: 300 requests an hour, and a stop waits no longer for the last one."""
CONNECT_TIMEOUT_SECONDS = 5
READ_MARGIN_SECONDS = 10
PRODUCER_BUDGET_SECONDS = 10.0
