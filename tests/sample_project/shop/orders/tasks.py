from celery import shared_task
from celery.utils.log import get_task_logger

log = get_task_logger(__name__)


@shared_task(bind=True, max_retry=5)
def charge(self, order):
    log.info("charging %s", order)


@shared_task(time_limit=50_000)
def settle():
    pass


@shared_task(priority=3, time_limit=3600)
def remind(order):
    pass
