"""Virtual environments: one for each peer, one for the endpoint, and none at all for the smoke test."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Protocol

from benchmarks.registry import CHECKOUT, ENDPOINT_REQUIREMENTS, Peer

ENDPOINT = "endpoint"
_LIST = """
import importlib.metadata, json
print(json.dumps({each.metadata["Name"].lower(): each.version for each in importlib.metadata.distributions()}))
"""
SHOWN = (
    "boto3",
    "botocore",
    "kombu",
    "celery",
    "pycurl",
    "pyqs",
    "pyqs-celery",
    "taskiq",
    "taskiq-aio-sqs",
    "dramatiq",
)
SHOWN_TOO = ("dramatiq-sqs", "aiobotocore", "httptools", "uvloop", "orjson")


class Environments(Protocol):
    """Where the interpreters are."""

    def bin(self, peer: Peer) -> Path:
        """The folder of a peer's ``python`` and programs."""
        ...

    def endpoint_command(self) -> list[str]:
        """What starts the endpoint."""
        ...


class VirtualEnvironments:
    """Below one folder. ``install`` makes what is missing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def bin(self, peer: Peer) -> Path:
        """The folder of a peer's ``python`` and programs."""
        return self.folder / peer.environment / "bin"

    def endpoint_command(self) -> list[str]:
        """The fast front, on core 0."""
        python = self.folder / ENDPOINT / "bin" / "python"
        return [str(python), "-m", "benchmarks.endpoint", "--core", "0"]

    def install(self, peers: list[Peer], *, again: bool = False) -> None:
        """Make the environments of these peers and the endpoint's; those that are there stay unless ``again``."""
        wanted = {ENDPOINT: ENDPOINT_REQUIREMENTS, **{peer.environment: peer.requirements for peer in peers}}
        for name, requirements in wanted.items():
            python = self.folder / name / "bin" / "python"
            done = self.folder / name / "installed"
            if done.exists() and not again:
                if str(CHECKOUT) in requirements:
                    # again, as it may have changed; and not editable, which would cost each process a finder
                    self._pip(python, "--force-reinstall", "--no-deps", str(CHECKOUT))
                continue
            print(f"installing {name}: {' '.join(requirements)}", file=sys.stderr, flush=True)
            venv.create(self.folder / name, with_pip=True)
            self._pip(python, *requirements)
            done.touch()

    @staticmethod
    def _pip(python: Path, *what: str) -> None:
        subprocess.check_call([str(python), "-m", "pip", "install", "-q", *what])

    def versions(self, peers: list[Peer]) -> dict[str, str]:
        """For each environment, the versions that matter."""
        found = {}
        for name in dict.fromkeys([ENDPOINT, *(peer.environment for peer in peers)]):
            answer = subprocess.check_output([str(self.folder / name / "bin" / "python"), "-I", "-c", _LIST])
            have: dict[str, str] = json.loads(answer)
            found[name] = ", ".join(f"{each} {have[each]}" for each in (*SHOWN, *SHOWN_TOO) if each in have)
        return found


class ThisInterpreter:
    """The interpreter that runs this, for peers whose requirements it has: nothing is downloaded."""

    def bin(self, peer: Peer) -> Path:
        """Its own folder."""
        return Path(sys.executable).parent

    def endpoint_command(self) -> list[str]:
        """The embedded SQS as it is: counts do not depend on its speed."""
        return [sys.executable, "-u", "-m", "pyqs_celery.local", "--port", "0"]
