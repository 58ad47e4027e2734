"""Plays a trial that would last for minutes, until somebody interrupts it: ``python interrupted.py FOLDER``."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from benchmarks.cases.setting import Setting
from benchmarks.environments import ThisInterpreter
from benchmarks.plan import Planned
from benchmarks.registry import RAW, find
from benchmarks.runner import Runner

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it starts with & ignore it
runner = Runner([find(RAW)], ThisInterpreter(), Path(sys.argv[1]))
list(runner.play([Planned("io", "for minutes", Setting(tasks=100_000, children=2, limit_seconds=600))]))
