"""``tox -e install``: what ``pip install`` of this project does in an empty environment, and ten tasks run there.

Needs a package index, so it is no part of the suite. Ends with 1 and a sentence if a promise is broken.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TASKS = """
from pyqs_celery import Celery
from pyqs_celery.contrib.testing.worker import start_worker

app = Celery("clean", broker="memory://", backend="cache+memory://")
app.conf.broker_transport_options = {"wait_time_seconds": 1}

@app.task
def double(number):
    return 2 * number

with start_worker(app, perform_ping_check=False):
    found = [double.delay(number).get(timeout=30) for number in range(10)]
assert found == [2 * number for number in range(10)], found
print("ten tasks have run")
"""


def run(*command: str | Path, **options: Any) -> str:
    """What a command prints. Raises SystemExit with what it said if it fails."""
    answer = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=900, **options)
    if answer.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{answer.stdout}{answer.stderr}")
    return answer.stdout


def main() -> None:
    """Build a wheel, install it with wheels only, and look at what came."""
    with tempfile.TemporaryDirectory() as folder:
        wheels, home, source = Path(folder, "wheels"), Path(folder, "venv"), Path(folder, "source")
        # a copy, because a build leaves things where it builds
        shutil.copytree(
            ROOT, source, ignore=shutil.ignore_patterns(".*", "build", "tests", "compat_tests", "__pycache__")
        )
        run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", wheels, source)
        [wheel] = wheels.glob("*.whl")
        venv.create(home, with_pip=True)
        python, report = home / "bin" / "python", Path(folder, "report.json")
        # without a compiler there is nothing else than wheels; this makes it so everywhere
        run(python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", "--report", report, wheel)
        installed = json.loads(report.read_text())["install"]
        names = {
            each["metadata"]["name"].lower(): each["download_info"]["url"].rpartition("/")[2] for each in installed
        }
        for name, file in sorted(names.items()):
            print(f"{name:20} {file}")
        compiled = {name for name, file in names.items() if not file.endswith("-none-any.whl")}
        if compiled or "pycurl" in names:
            raise SystemExit(f"not pure Python, or not wanted: {sorted(compiled | ({'pycurl'} & set(names)))}")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "AWS_"))}
        print(run(python, "-c", TASKS, env=clean, cwd=folder).strip())


if __name__ == "__main__":
    main()
