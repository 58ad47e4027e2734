"""Small helpers that know nothing of tasks or queues."""
