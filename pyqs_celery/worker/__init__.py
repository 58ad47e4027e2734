"""The worker: a manager that forks, a consumer that talks to SQS, children that run tasks."""
