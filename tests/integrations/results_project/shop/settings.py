import os

if os.environ.get("SIDE") != "celery":
    import pyqs_celery

    pyqs_celery.install_as_celery()

SECRET_KEY = "only for tests"
INSTALLED_APPS = ["django.contrib.contenttypes", "django_celery_results", "jobs"]
if os.environ.get("POSTGRES_PORT"):
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": "127.0.0.1",
            "PORT": os.environ["POSTGRES_PORT"],
            "NAME": os.environ["POSTGRES_DATABASE"],
            "USER": "postgres",
            "CONN_MAX_AGE": 600,
        }
    }
else:
    DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["SQLITE_FILE"]}}
    DATABASES["default"]["OPTIONS"] = {"timeout": 20}
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "shared": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "shared_cache"},
}
USE_TZ = True
TIME_ZONE = "Europe/Berlin"
CELERY_BROKER_URL = os.environ.get("BROKER", "sqs://")
CELERY_BROKER_TRANSPORT_OPTIONS = {"wait_time_seconds": 1}
CELERY_TASK_CREATE_MISSING_QUEUES = True
CELERY_TASK_ACKS_ON_FAILURE = True
CELERY_RESULT_BACKEND = os.environ.get("RESULTS", "django-db")
CELERY_RESULT_EXTENDED = bool(os.environ.get("EXTENDED"))
CELERY_RESULT_SERIALIZER = os.environ.get("SERIALIZER", "json")
CELERY_ACCEPT_CONTENT = ["json", "pickle"]
CELERY_CACHE_BACKEND = os.environ.get("CACHE")
CELERY_WORKER_REDIRECT_STDOUTS = False
