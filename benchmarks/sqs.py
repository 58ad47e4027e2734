"""The endpoint's process and its back door (``/_admin``), which counts no requests."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

from benchmarks import processes

VISIBILITY_SECONDS = 600
_open = build_opener(ProxyHandler({})).open


@dataclass(frozen=True, slots=True)
class Requests:
    """What was asked since the last ``reset``: requests by action, and what happened to messages."""

    by_action: dict[str, int]
    stats: dict[str, int]

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.by_action.values())


class Endpoint:
    """One endpoint in a process of its own; ``close`` ends it. Raises RuntimeError if it does not start."""

    def __init__(self, command: list[str], environment: dict[str, str], errors: Path) -> None:
        with errors.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=log, start_new_session=True
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode()
        if "http://" not in line:
            self.close()
            raise RuntimeError(f"the endpoint did not start: {errors.read_text()[-600:]}")
        self.url = line.split()[-1]

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def close(self) -> None:
        """End it."""
        processes.end(self._process, 2)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def ask(self, page: str, **data: Any) -> dict[str, Any]:
        """One question to the back door."""
        return self._post(f"{self.url}/_admin/{page}", data, {})

    def _post(self, url: str, data: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
        body = json.dumps(data).encode() if data else None
        with _open(Request(url, data=body, headers=headers), timeout=120) as answer:  # noqa: S310 - our own loopback URL
            value: dict[str, Any] = json.load(answer)
            return value

    def prepare(self, queues: list[str]) -> None:
        """Forget everything, and make these queues."""
        self.ask("wipe")
        kind = {"X-Amz-Target": "AmazonSQS.CreateQueue", "Content-Type": "application/x-amz-json-1.0"}
        for name in queues:
            attributes = {"VisibilityTimeout": str(VISIBILITY_SECONDS)}
            self._post(self.url, {"QueueName": name, "Attributes": attributes}, kind)

    def set_latency(self, milliseconds: float) -> None:
        """From now on a request takes so long: half of it passes before the work, half before the answer."""
        self.ask("config", latency_ms=milliseconds)

    def reset(self) -> None:
        """Count requests from here."""
        self.ask("reset")

    def requests(self) -> Requests:
        """What was asked since."""
        found = self.ask("counters")
        return Requests(found["actions"], found["stats"])

    def put(self, queue: str, bodies: Bodies, number: int) -> None:
        """Put so many of these bodies on a queue at once; they begin again when they are used up."""
        copies, rest = divmod(number, len(bodies.texts))
        attributes = bodies.attributes
        if copies:
            self.ask("inject", queue=queue, bodies=bodies.texts, attributes=attributes, copies=copies)
        if rest:
            self.ask("inject", queue=queue, bodies=bodies.texts[:rest], attributes=attributes)

    def take_bodies(self, queue: str, number: int) -> Bodies:
        """Look at what is waiting."""
        found = self.ask("peek", queue=queue, n=number)
        return Bodies(found["bodies"], found["attributes"][0] if found["attributes"] else None)

    def left(self) -> int:
        """Messages not yet deleted, delayed ones aside."""
        return sum(queue["visible"] + queue["inflight"] for queue in self.ask("state").values())

    def open_polls(self) -> int:
        """Receives that wait for a message now."""
        return sum(int(queue["waiters"]) for queue in self.ask("state").values())


@dataclass(frozen=True, slots=True)
class Bodies:
    """Messages as a peer itself sends them: their texts, and the message attributes they share."""

    texts: list[str]
    attributes: dict[str, Any] | None
