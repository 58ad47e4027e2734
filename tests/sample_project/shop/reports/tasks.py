from celery import shared_task


@shared_task(sqs_retry="native", max_retries=20)
def nightly():
    pass
