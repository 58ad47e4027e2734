"""The Django project is started, not collected."""

from __future__ import annotations

import pytest

from pyqs_celery import _state

collect_ignore = ["django_project"]


@pytest.fixture(autouse=True)
def _put_the_current_app_back():
    before = (_state.default_app, getattr(_state._tls, "current_app", None))
    yield
    _state.default_app, _state._tls.current_app = before
