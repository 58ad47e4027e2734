"""Votes inside a transaction, and sends the counting on commit: prints what waited before and after it."""

import json
import os
import sys

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_app.settings")

import django

django.setup()

from django.db import transaction
from polls.models import Vote
from polls.tasks import count

from pyqs_celery import signals

sent = []


@signals.after_task_publish.connect
def note(sender, **kwargs):
    sent.append(sender)


before = []
for number in range(int(sys.argv[1])):
    with transaction.atomic():
        vote = Vote.objects.create(choice=str(number))
        count.delay_on_commit(vote.pk)
        before.append(len(sent))
try:
    with transaction.atomic():
        count.apply_async_on_commit((Vote.objects.create(choice="undone").pk,))
        raise KeyError
except KeyError:
    pass
print(json.dumps({"before": before, "sent": sent}))
