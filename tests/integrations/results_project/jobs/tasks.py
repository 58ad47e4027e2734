import os
import signal
from pathlib import Path

from celery import shared_task


@shared_task
def add(x, y):
    return x + y


@shared_task
def total(values):
    return sum(values)


@shared_task
def broken(word):
    raise ValueError(word)


@shared_task(bind=True)
def parent(self):
    add.delay(1, 1)
    return self.request.id


@shared_task(acks_late=True)
def dies_once(mark, value):
    """Kills its process the first time."""
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return value
