"""Prints every vote as JSON."""

import json
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_app.settings")

import django

django.setup()

from polls.models import Vote

print(json.dumps(list(Vote.objects.values("choice", "counted_by", "connection"))))
