"""``-A compat_tests.mixed.app``: the application of a fleet's worker, on the side that ``MIXED_SIDE`` names."""

from __future__ import annotations

import os

from compat_tests.mixed import library, tasks

side = os.environ["MIXED_SIDE"]
lib = library.load(side)
app = library.make_app(lib, side)
tasks.declare(app, lib)
