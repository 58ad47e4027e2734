"""As Celery's guide for Django has it, after nothing but the swap of the import."""

import os

from pyqs_celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_app.settings")

app = Celery("site_app")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@app.task(bind=True, ignore_result=True)
def debug_task(self):
    print(f"Request: {self.request!r}")
