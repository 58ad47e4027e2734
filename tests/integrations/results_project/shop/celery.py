"""As Celery's guide for Django has it, but that the settings are read first."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

from django.conf import settings

# the settings say that celery is ours, so they are read before it is imported
assert settings.INSTALLED_APPS

from celery import Celery

app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
