from celery.signals import (
    task_failure,  # told to somebody
    task_success,
)


@task_failure.connect
def failed(sender=None, **kwargs):
    print("celery.task failed", sender)


@task_success.connect
def succeeded(sender=None, **kwargs):
    pass
