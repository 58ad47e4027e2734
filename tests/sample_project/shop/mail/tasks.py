import celery
import celery.schedules as when

from shop.celery import app


class Base(celery.Task):
    abstract = True


@app.task(base=Base)
def send(to):
    return celery.current_task.request.id


EVERY = when.crontab(minute=0)
