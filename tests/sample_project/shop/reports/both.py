from celery import Celery, version_info_t
from celery import local

print(Celery, version_info_t, local)
