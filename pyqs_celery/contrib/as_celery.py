"""Importing this module calls ``install_as_celery()``: for ``pytest -p pyqs_celery.contrib.as_celery`` and ``-c`` scripts."""

from __future__ import annotations

from pyqs_celery.alias import install_as_celery

install_as_celery()
