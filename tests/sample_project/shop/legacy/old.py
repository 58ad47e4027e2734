from celery.task import task


@task
def gone():
    pass
