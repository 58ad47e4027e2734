"""Measures pyqs-celery beside others that run tasks from SQS, on one machine, against one endpoint; see docs/performance.rst."""
