"""IAM's policies as the embedded SQS enforces them, and what is left of one without an action."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from tests.support.embedded import ROOT
from tests.support.worker import APP


def printed_policy(*arguments: str, **variables: str) -> dict[str, Any]:
    """What ``pyqs-celery doctor --iam`` prints for the tests' application, as somebody without AWS at hand runs it."""
    answer = subprocess.run(
        [sys.executable, "-m", "pyqs_celery", "-A", "proj", "doctor", *arguments],
        env={"PYTHONPATH": f"{ROOT}:{APP}", "DIARY": "/dev/null", "PATH": "/usr/bin:/bin", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def enforced(policy: dict[str, Any]) -> list[dict[str, Any]]:
    """The same for the embedded SQS."""
    return [
        {
            "actions": [action.removeprefix("sqs:") for action in statement["Action"]],
            "queues": [resource.rsplit(":", 1)[-1] for resource in statement["Resource"]],
        }
        for statement in policy["Statement"]
    ]


def permissions(policy: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Each (action, resource) it allows."""
    for statement in policy["Statement"]:
        for action in statement["Action"]:
            for resource in statement["Resource"]:
                yield action, resource


def without(policy: dict[str, Any], action: str, resource: str) -> dict[str, Any]:
    """It, but for one permission."""
    left = [
        {"Action": [each], "Resource": [place]}
        for each, place in permissions(policy)
        if (each, place) != (action, resource)
    ]
    assert len(left) == len(list(permissions(policy))) - 1
    return {"Version": policy["Version"], "Statement": left}
