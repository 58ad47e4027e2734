import importlib
from unittest import mock

exceptions = importlib.import_module("celery.exceptions")
patched = mock.patch("celery.app.task.Task.apply_async")
QUEUE = "celery"
