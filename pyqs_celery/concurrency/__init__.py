"""``celery.concurrency``: the pools' names. What they are is in ``pyqs_celery.worker``."""
