from celery.worker.consumer import Consumer
from celery.concurrency.asynpool import AsynPool

print(Consumer, AsynPool)
