"""A store whose package is not installed is told with the extra to install."""

from __future__ import annotations

import sys

import pytest

from pyqs_celery import Celery
from pyqs_celery.exceptions import ImproperlyConfigured


@pytest.mark.parametrize(
    ("url", "missing", "extra"),
    [
        ("redis://h", "redis", "redis"),
        ("sentinel://h:1", "redis.sentinel", "redis"),
        ("cache+memcached://h:1/", "pymemcache.client.base", "memcached"),
    ],
)
def test_the_extra_is_named(monkeypatch, url, missing, extra):
    monkeypatch.setitem(sys.modules, missing, None)
    app = Celery("proj", backend=url, set_as_current=False)

    with pytest.raises(ImproperlyConfigured, match=rf"pip install 'pyqs-celery\[{extra}\]'"):
        _ = app.backend
