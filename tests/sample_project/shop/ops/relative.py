from ..celery import app
from shop import celery
from django_celery_beat.models import PeriodicTask

print(app, celery, PeriodicTask)
