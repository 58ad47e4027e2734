"""The base class of tasks in Django projects: sending once the transaction is committed."""

from __future__ import annotations

from functools import partial
from typing import Any

from pyqs_celery.app.task import Task


class DjangoTask(Task):
    """A task that can wait for the transaction: a worker must not run before the rows it needs are there.

    https://docs.celeryq.dev/en/stable/django/first-steps-with-django.html#trigger-tasks-at-the-end-of-the-database-transaction
    """

    abstract = True

    def delay_on_commit(self, *args: Any, using: str | None = None, **kwargs: Any) -> None:
        """``delay`` when the transaction is committed; at once outside of one. The id is not known yet, so it gives None."""
        from django.db import transaction

        transaction.on_commit(partial(self.delay, *args, **kwargs), using=using)

    def apply_async_on_commit(self, *args: Any, using: str | None = None, **kwargs: Any) -> None:
        """``apply_async`` when the transaction is committed."""
        from django.db import transaction

        transaction.on_commit(partial(self.apply_async, *args, **kwargs), using=using)
