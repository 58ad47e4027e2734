"""For Django projects: put ``pyqs_celery.contrib.django`` into INSTALLED_APPS to get ``manage.py pyqs_celery``."""
