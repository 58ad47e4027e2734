"""proj, and a task that tells what its process has loaded."""

from __future__ import annotations

import gc
import sys

from proj import app, write

from pyqs_celery import signals

__all__ = ["app"]
before_fork: set[str] = set()


@signals.worker_before_create_process.connect
def remember(**kwargs):
    before_fork.update(sys.modules)


@app.task(name="proj.tell_loaded", ignore_result=True)
def tell_loaded(key):
    packages = sorted({name.partition(".")[0] for name in sys.modules})
    write("loaded", key, packages=packages, fresh=sorted(set(sys.modules) - before_fork), frozen=gc.get_freeze_count())
