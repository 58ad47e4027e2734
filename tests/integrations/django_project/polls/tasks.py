import os

from django.db import connection

from polls.models import Vote
from pyqs_celery import shared_task


def session():
    """The database's number for this connection; the process's where there is no server."""
    if connection.vendor != "postgresql":
        return os.getpid()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


@shared_task
def count(vote_id):
    Vote.objects.filter(pk=vote_id).update(counted_by=os.getpid(), connection=session())
