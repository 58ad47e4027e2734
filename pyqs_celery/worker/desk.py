"""What the manager answers: to probes by what the consumer last reported, to local control itself or by asking the consumer."""

from __future__ import annotations

import logging
import selectors
import socket
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from pyqs_celery import nodes
from pyqs_celery.utils.log import Sometimes
from pyqs_celery.worker import health
from pyqs_celery.worker.config import WorkerConfig
from pyqs_celery.worker.doors import Caller, Doors
from pyqs_celery.worker.health import Fuse, Report

logger = logging.getLogger("celery.worker.control")
QUESTIONS_MOST = 128
"""How many may wait for the consumer. Beyond that nobody is answered, which probes take for what it is: it does not answer."""
SLOTS_MOST = 10_000
PROBES = {"/": False, "/health": False, "/ready": False, "/live": True}
"""Paths that are answered, and whether only what a restart would cure counts."""


class Staff(Protocol):
    """What the desk asks of the manager."""

    @property
    def slots(self) -> Collection[int]:
        """The slots that are to have children."""
        ...

    def fuses(self, now: float) -> Iterable[Fuse]:
        """What is wrong with the processes (``now`` is monotonic)."""
        ...

    def tell_consumer(self, value: dict[str, Any]) -> bool:
        """Send a frame to the consumer; False if there is none."""
        ...

    def grow(self, number: int) -> None:
        """Start more children."""
        ...

    def shrink(self, slots: Iterable[int]) -> None:
        """The consumer lets these go: start no others in their place."""
        ...

    def stop(self) -> None:
        """Begin a warm stop."""
        ...


class Desk:
    """One worker's. ``selector`` is the manager's loop's."""

    def __init__(self, config: WorkerConfig, selector: selectors.BaseSelector, staff: Staff) -> None:
        self._config = config
        self._staff = staff
        self._doors = Doors(selector, self._on_question, self._on_probe)
        self._report = Report(time.monotonic())
        self._stopping = False
        self._numbers = count(1)
        self._asked: dict[int, Caller] = {}
        self._tell = Sometimes()
        self._own: dict[str, Callable[[dict[str, Any]], Any]] = {
            "health": self._health,
            "shutdown": self._shutdown,
            "pool_grow": self._grow,
        }

    # -- in the manager's loop ---------------------------------------------------------------------

    def open(self, say: Callable[[str], None]) -> None:
        """Open what is to be open. Raises BootError if the port for probes is taken."""
        if self._config.health_port is not None:
            port = self._doors.open_http(self._config.health_host, self._config.health_port)
            say(f"  health:      http://{self._config.health_host}:{port}/health")
        if self._config.remote_control:
            self._doors.open_control(self._config.hostname, self._config.control_folder)
        self._write_file()

    def sockets(self) -> Iterator[socket.socket]:
        """All that a new process must not keep."""
        return self._doors.sockets()

    def next_due(self) -> float | None:
        """When ``expire`` is to be called (monotonic)."""
        return self._doors.next_due()

    def expire(self, now: float) -> None:
        """Hang up on callers whose time is over."""
        self._doors.expire(now)

    def on_ready(self, sock: socket.socket, mask: int) -> None:
        """A socket of ours is ready."""
        self._doors.on_ready(sock, mask)

    def stopping(self) -> None:
        """The worker stops."""
        self._stopping = True
        self._write_file()

    def close(self) -> None:
        """Close everything. No file is left to speak for a worker that is gone."""
        self._doors.close()
        if not self._config.health_file:
            return
        try:
            health.remove_file(Path(self._config.health_file))
        except OSError as exc:
            logger.warning("The health file %s cannot be removed: %s", self._config.health_file, exc)

    # -- health ------------------------------------------------------------------------------------

    def consumer_started(self) -> None:
        """A new consumer will report; until then it is starting."""
        self._report = Report(time.monotonic())
        for caller in self._asked.values():
            self._doors.hang_up(caller)
        self._asked.clear()

    def reported(self, plain: dict[str, Any]) -> None:
        """The consumer has reported."""
        self._report = Report.from_plain(plain)
        self._write_file()

    def _present(self) -> Report:
        """The consumer's last report and what is seen of the processes right now."""
        state = "stopping" if self._stopping else self._report.state
        own = self._staff.fuses(time.monotonic())
        return replace(self._report, state=state, fuses=health.soonest([*self._report.fuses, *own]))

    def _on_probe(self, path: str) -> tuple[int, dict[str, Any]]:
        if path not in PROBES:
            return 404, {"error": f"there are {', '.join(PROBES)}"}
        verdict = health.judge(self._present(), time.monotonic(), live=PROBES[path])
        return 200 if verdict.ok else 503, verdict.to_plain(self._config.hostname)

    def _health(self, arguments: dict[str, Any]) -> Any:
        return self._on_probe("/live" if arguments.get("live") else "/health")[1]

    def _write_file(self) -> None:
        if not self._config.health_file:
            return
        try:
            health.write_file(Path(self._config.health_file), self._config.hostname, self._present(), time.monotonic())
        except OSError as exc:
            if self._tell("file", time.monotonic()):
                logger.error("The health file %s cannot be written: %s", self._config.health_file, exc)

    # -- local control -----------------------------------------------------------------------------

    def _on_question(self, caller: Caller, question: dict[str, Any]) -> None:
        name = self._config.hostname
        if not nodes.is_meant(name, question.get("destination"), question.get("pattern")):
            self._doors.answer(caller, {"hostname": name})
            return
        command, arguments = question["command"], question.get("arguments") or {}
        if not isinstance(arguments, dict):
            self._reply(caller, {"error": "arguments are an object: names and values"})
        elif command in self._own:
            self._reply(caller, self._own[command](arguments))
        elif len(self._asked) >= QUESTIONS_MOST or not self._ask(caller, command, arguments):
            self._doors.hang_up(caller)

    def _ask(self, caller: Caller, command: str, arguments: dict[str, Any]) -> bool:
        """Hand a question on to the consumer; False if there is none."""
        number = next(self._numbers)
        if command == "pool_shrink":
            arguments = {**arguments, "slots": sorted(self._staff.slots)}
        self._asked[number] = caller
        if self._staff.tell_consumer({"ask": number, "command": command, "arguments": arguments}):
            return True
        del self._asked[number]
        return False

    def _reply(self, caller: Caller, value: Any) -> None:
        self._doors.answer(caller, {"hostname": self._config.hostname, "reply": value})

    def answered(self, value: dict[str, Any]) -> None:
        """The consumer answers a question."""
        self._staff.shrink(value.get("dismissed", ()))
        caller = self._asked.pop(int(value["answer"]), None)
        if caller is not None:
            self._reply(caller, value["reply"])

    def _shutdown(self, _: dict[str, Any]) -> Any:
        logger.warning("Got shutdown from local control")
        self._staff.stop()
        return {"ok": "the worker stops when its running tasks are done"}

    def _grow(self, arguments: dict[str, Any]) -> Any:
        number = arguments.get("n", 1)
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            return {"error": f"pool_grow takes a whole number of at least 1, not {number!r}"}
        if self._config.pool == "solo":
            return {"error": "the solo pool has one slot"}
        if self._stopping:
            return {"error": "the worker is stopping"}
        if len(self._staff.slots) + number > SLOTS_MOST:
            return {"error": f"a worker has {SLOTS_MOST} slots at most"}
        self._staff.grow(number)
        return {"ok": "pool will grow"}
