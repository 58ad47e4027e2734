"""Celery or pyqs-celery under one name, and the application of a fleet made with it.

Everything is told by the environment: ``MIXED_SIDE`` is "celery" or "ours", ``MIXED_SETTINGS`` holds the fleet's settings as
JSON, ``MIXED_DIARY`` names the file that tasks write facts to.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

PACKAGES = {"celery": "celery", "ours": "pyqs_celery"}


def load(side):
    """The package of a side, with the modules that the behaviours use."""
    name = PACKAGES[side]
    package = importlib.import_module(name)
    for part in ("canvas", "exceptions", "result", "states"):
        importlib.import_module(f"{name}.{part}")
    return package


def make_app(lib, side):
    app = lib.Celery("mixed")
    app.conf.update(json.loads(os.environ["MIXED_SETTINGS"]))
    if side == "ours":
        # A failure is final at once, as with Celery: these tests compare what a failure leaves behind.
        app.conf.update(worker_max_deliveries=1)
    return app


def check_apart(side):
    """Neither side may lean on the other's package."""
    other = PACKAGES["ours" if side == "celery" else "celery"]
    assert other not in sys.modules, f"{side} has imported {other}"
