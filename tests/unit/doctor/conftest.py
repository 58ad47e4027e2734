"""A copy of the sample project, and the two commands on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.embedded import ROOT

SAMPLE = Path(__file__).parents[2] / "sample_project"


@pytest.fixture
def project(tmp_path):
    copy = tmp_path / "project"
    shutil.copytree(SAMPLE, copy)
    return copy


@pytest.fixture
def command(project):
    """``command("doctor", ...)`` runs in the project; ``variables`` go into its environment."""

    def run(*words, **variables):
        return subprocess.run(
            [sys.executable, "-m", "pyqs_celery", *map(str, words)],
            env={**os.environ, "PYTHONPATH": str(ROOT), "AWS_EC2_METADATA_DISABLED": "true", **variables},
            cwd=project,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run
