"""What comes along with ``pip install pyqs-celery``: little, nothing compiled, and nothing that is loaded before it is needed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import distribution

import pytest

NAME = re.compile(r"[\w.-]+")
BOTTOM = {"boto3", "click", "kombu"}
LIMIT_SECONDS = 0.3


def required(name: str, seen: dict[str, str]) -> dict[str, str]:
    """The distributions that this one needs, by name, and whether each is pure Python, as its wheel says."""
    for line in distribution(name).requires or ():
        requirement, _, marker = line.partition(";")
        if "extra ==" in marker:
            continue
        found = NAME.match(requirement.strip())
        assert found is not None
        needed = found.group().lower().replace("_", "-")
        if needed in seen or not is_installed(needed):
            continue  # what another Python or another system needs is not there
        wheel = distribution(needed).read_text("WHEEL") or ""
        seen[needed] = wheel.partition("Root-Is-Purelib:")[2].split("\n")[0].strip()
        required(needed, seen)
    return seen


def is_installed(name: str) -> bool:
    try:
        distribution(name)
    except ModuleNotFoundError:
        return False
    return True


def test_nothing_that_is_needed_is_compiled():
    found = required("pyqs-celery", {})

    assert set(found) >= BOTTOM
    assert {name: pure for name, pure in found.items() if pure != "true"} == {}
    assert "pycurl" not in found


def test_the_requirements_are_three():
    lines = [line for line in distribution("pyqs-celery").requires or () if "extra ==" not in line]
    assert {NAME.match(line).group() for line in lines} == BOTTOM


@pytest.mark.parametrize("statement", ["import pyqs_celery", "from pyqs_celery import Celery, shared_task"])
def test_importing_it_is_quick_and_loads_no_boto(statement):
    program = (
        f"import sys, time\nbegin = time.process_time()\n{statement}\nspent = time.process_time() - begin\n"
        "import json\nprint(json.dumps([spent, sorted(sys.modules)]))"
    )

    def measured():
        answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
        return json.loads(answer.stdout)

    runs = [measured() for _ in range(3)]

    assert min(spent for spent, _ in runs) < LIMIT_SECONDS
    loaded = {name.partition(".")[0] for name in runs[0][1]}
    assert not loaded & {"boto3", "botocore", "urllib3", "pycurl", "celery"}
