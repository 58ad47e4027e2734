from celery import Celery, chain
from celery import local

print(Celery, chain, local)
