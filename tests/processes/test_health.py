"""Health that tells the truth: real workers, real signals, probes as they are written in docs/deploy.rst."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from pyqs_celery import nodes
from tests.support.embedded import ROOT
from tests.support.proc import processor_seconds
from tests.support.waiting import until
from tests.support.worker import Worker

pytestmark = pytest.mark.processes
NAME = "w@here"


class Probed:
    """A worker with all three probes, and its verdict by each."""

    def __init__(self, worker: Worker, folder: Path) -> None:
        self.worker = worker
        self.file = folder / "health"
        worker.wait_ready()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/health", worker.log)
        assert found is not None, worker.log
        self.port = int(found[1])
        self.folder = str(worker.diary.path.parent / "control")

    def by_port(self, page: str = "/health") -> dict[str, Any]:
        try:
            with urlopen(f"http://127.0.0.1:{self.port}{page}", timeout=5) as answer:
                assert answer.status == 200
                return json.load(answer)
        except HTTPError as refusal:
            with refusal:
                return {**json.load(refusal), "code": refusal.code}

    def by_socket(self) -> dict[str, Any]:
        return nodes.ask("health", {}, destination=[NAME], folder=self.folder).replies[NAME]

    def command(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """``pyqs-celery health``: its exit code and what it says."""
        done = subprocess.run(
            [sys.executable, "-m", "pyqs_celery", "health", *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYQS_CELERY_CONTROL_DIR": self.folder},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not done.stderr
        return done.returncode, json.loads(done.stdout)

    def is_green(self) -> bool:
        return self.by_port()["status"] == "ok"

    def wait_green(self) -> None:
        until(self.is_green, "it is healthy")

    def wait_red(self, reason: str, seconds: float = 40.0) -> dict[str, Any]:
        def told() -> dict[str, Any] | None:
            found = self.by_port()
            return found if any(reason in each for each in found["reasons"]) else None

        found = until(told, f"red for {reason!r}", seconds)
        assert (found["status"], found["code"]) == ("unhealthy", 503)
        return found


@pytest.fixture
def probed(start_worker, tmp_path) -> Callable[..., Probed]:
    def start(*arguments: str, **variables: str) -> Probed:
        health = ("-n", NAME, "--health-port", "0", "--health-file", str(tmp_path / "health"))
        return Probed(start_worker(*health, *arguments, **variables), tmp_path)

    return start


def test_a_worker_that_polls_is_green_by_every_probe(sqs, probed):
    sqs.create("emails")
    worker = probed("-Q", "emails", "-c", "2")
    worker.wait_green()

    expected = {"status": "ok", "state": "ready", "reasons": [], "slots": 2, "busy": 0, "queues": 1, "hostname": NAME}
    assert worker.by_port() == worker.by_port("/live") == worker.by_socket() == expected
    assert worker.command() == worker.command("-d", NAME) == (0, expected)
    assert worker.command("--port", str(worker.port)) == (0, expected)
    until(lambda: worker.command("--file", str(worker.file)) == (0, expected), "the file says so too")

    assert worker.worker.stop() == 0
    assert not worker.file.exists()
    assert not list(Path(worker.folder).iterdir())
    for arguments in ([], ["-d", NAME], ["--port", str(worker.port)], ["--file", str(worker.file)]):
        code, told = worker.command(*arguments)
        assert (code, told["status"]) == (1, "unhealthy")


def test_the_answers_are_quick_and_cost_no_request(sqs, probed):
    sqs.create("emails")
    worker = probed("-Q", "emails", "-c", "1")
    worker.wait_green()
    before = sum(sqs.requests().values())

    times = []
    for ask in [worker.by_port, worker.by_socket] * 20:
        began = time.monotonic()
        assert ask()["status"] == "ok"
        times.append(time.monotonic() - began)
    spent = sum(sqs.requests().values()) - before

    assert sorted(times)[len(times) // 2] < 0.1
    assert spent <= 1 + sum(times), "more than the worker's own polls, one a second"


def test_the_command_loads_neither_boto3_nor_kombu_nor_an_application():
    code = (
        "import sys; from pyqs_celery.bin import run; run(['-A', 'proj', 'health']); "
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'boto3', 'botocore', 'kombu', 'vine', 'asyncio', 'proj'}),"
        " sum(1 for name in sys.modules if name.startswith('pyqs_celery')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60
    )

    loaded, ours = done.stdout.splitlines()[-1].rsplit(" ", 1)
    assert loaded == "[]"
    assert int(ours) <= 12


@pytest.mark.parametrize("who", ["an idle child", "a busy child", "the consumer"])
def test_a_stopped_process_is_red_until_it_goes_on(sqs, probed, send, tmp_path, who):
    sqs.create("emails")
    os.mkfifo(tmp_path / "gate")
    worker = probed("-Q", "emails", "-c", "1")
    worker.wait_green()
    if who == "a busy child":
        send("pass_gate", "emails", 1, str(tmp_path / "gate"))
        worker.worker.diary.wait("start", 1)
    consumer, child = worker.worker.wait_family(2)
    victim = consumer if who == "the consumer" else child

    os.kill(victim, signal.SIGSTOP)
    try:
        told = worker.wait_red("is stopped")
        assert str(victim) in told["reasons"][0]
        assert worker.by_port("/live")["status"] == "unhealthy"
        assert worker.command()[0] == 1
    finally:
        os.kill(victim, signal.SIGCONT)
    worker.wait_green()
    if who == "a busy child":
        (tmp_path / "gate").write_text("")
        worker.worker.diary.wait("end", 1)


@pytest.mark.timeout(180)
@pytest.mark.slow
def test_a_stopped_manager_is_red_by_silence_and_by_age(sqs, probed):
    sqs.create("emails")
    worker = probed("-Q", "emails", "-c", "1")
    worker.wait_green()

    os.kill(worker.worker.process.pid, signal.SIGSTOP)
    try:
        code, told = worker.command("-d", NAME, "-t", "0.5")
        assert (code, told["reasons"]) == (1, ["it did not answer in 0.5 s"])
        assert worker.command("--port", str(worker.port), "-t", "0.5")[0] == 1
        until(lambda: worker.command("--file", str(worker.file))[0] == 1, "the file is too old", 60)
    finally:
        os.kill(worker.worker.process.pid, signal.SIGCONT)
    worker.wait_green()


@pytest.mark.timeout(240)
@pytest.mark.slow
def test_frozen_and_refused_polls_are_red_in_a_minute_with_the_reason(sqs, probed):
    """One queue's polls are never answered, another's are refused, a third is fine."""
    for name in ("frozen", "refused", "fine"):
        sqs.create(name)
    worker = probed("-Q", "frozen,refused,fine", "-c", "1")
    worker.wait_green()

    sqs.faults(
        {"kind": "timeout", "action": "ReceiveMessage", "queue": "frozen"},
        {"kind": "403", "action": "ReceiveMessage", "queue": "refused"},
    )
    began = time.monotonic()
    worker.wait_red("queue frozen: no poll has completed in 60 s", 90)
    told = worker.wait_red("queue refused: no poll has completed in 60 s (", 90)
    assert time.monotonic() - began < 75
    assert not any("queue fine" in reason for reason in told["reasons"])
    assert worker.by_port("/live")["status"] == "ok", "a restart would not cure it"
    assert worker.command()[0] == 1
    until(lambda: worker.command("--file", str(worker.file))[0] == 1, "the file says so too")

    sqs.faults()
    until(worker.is_green, "it recovers", 60)


def test_a_refused_deletion_is_red(sqs, probed, send):
    sqs.create("emails")
    worker = probed("-Q", "emails", "-c", "1")
    worker.wait_green()

    sqs.faults({"kind": "403", "action": "DeleteMessageBatch"})
    send("note", "emails", 1)
    worker.wait_red("queue emails: SQS refuses to delete messages; allow sqs:DeleteMessage on it")
    assert worker.worker.diary.count("run")[1] == 1


def test_a_long_task_in_every_slot_stays_green(sqs, probed, send, tmp_path):
    """With a lease of 5 seconds, renewed, and polls that are all over: what counts is the lease."""
    sqs.create("emails")
    os.mkfifo(tmp_path / "gate")
    worker = probed("-Q", "emails", "-c", "1", "worker_lease_seconds=5")
    send("pass_gate", "emails", 1, str(tmp_path / "gate"))
    worker.worker.diary.wait("start", 1)
    began = time.monotonic()
    seen = []

    def later() -> bool:
        seen.append(worker.by_port())
        return time.monotonic() - began > 12

    until(later, "two leases are over")
    assert all(each["status"] == "ok" for each in seen), [each for each in seen if each["reasons"]][:1]
    assert seen[-1]["busy"] == 1

    sqs.faults({"kind": "403", "action": "ChangeMessageVisibilityBatch"})
    worker.wait_red("was not kept")
    sqs.faults()
    (tmp_path / "gate").write_text("")


def test_a_killed_child_is_replaced_and_the_worker_green_again(sqs, probed):
    sqs.create("emails")
    worker = probed("-Q", "emails", "-c", "1")
    worker.wait_green()
    (_, child) = worker.worker.wait_family(2)
    os.kill(child, signal.SIGKILL)
    until(lambda: child not in worker.worker.family() and len(worker.worker.family()) == 2, "there is another child")
    worker.wait_green()


def test_a_worker_that_starts_or_stops_is_not_ready_but_lives(sqs, start_worker, tmp_path, send):
    os.mkfifo(tmp_path / "gate")
    worker = start_worker("-n", NAME, "-Q", "emails", "-c", "1", "--health-port", "0")
    worker.wait_logged("/health")
    folder = str(worker.diary.path.parent / "control")

    def ask(**arguments: Any) -> dict[str, Any]:
        return nodes.ask("health", arguments, folder=folder).replies.get(NAME, {})

    missing = until(lambda: ask() if "no queue" in str(ask()) else None, "it tells what is missing")
    assert missing["status"] == "unhealthy"
    assert ask(live=True)["status"] == "ok"

    sqs.create("emails")
    nodes.ask("add_consumer", {"queue": "emails"}, folder=folder)  # look again at once
    until(lambda: ask()["status"] == "ok", "the queue is found")
    send("pass_gate", "emails", 1, str(tmp_path / "gate"))
    worker.diary.wait("start", 1)
    worker.send_signal(signal.SIGTERM)
    until(lambda: ask()["state"] == "stopping", "it stops")
    assert ask()["status"] == "unhealthy"
    assert ask(live=True)["status"] == "ok"
    (tmp_path / "gate").write_text("")
    assert worker.wait() == 0


def test_a_named_queue_that_is_not_there_is_red_beside_one_that_is(sqs, probed):
    sqs.create("emails")
    worker = probed("-Q", "emails,orders", "-c", "1", "worker_queue_refresh_seconds=1")

    worker.wait_red("there is no queue 'orders'")

    sqs.create("orders")
    worker.wait_green()


def test_a_dead_consumer_is_red_until_there_is_another(sqs, probed):
    sqs.create("emails")
    worker = probed("-Q", "emails", "-c", "1")
    worker.wait_green()
    consumer, _ = worker.worker.wait_family(2)

    os.kill(consumer, signal.SIGKILL)
    until(lambda: not worker.is_green(), "it is seen")
    worker.wait_green()
    assert worker.by_socket()["status"] == "ok"


def test_a_taken_port_ends_the_start(sqs, start_worker):
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    try:
        worker = start_worker("-Q", "emails", "--health-port", str(server.server_address[1]))
        assert worker.wait() == 3
        assert "--health-port" in worker.log
    finally:
        server.server_close()


def test_a_file_that_cannot_be_written_is_said_once_and_does_no_harm(sqs, start_worker, send, tmp_path):
    sqs.create("emails")
    worker = start_worker("-Q", "emails", "--health-file", str(tmp_path / "none" / "health"))
    worker.wait_ready()
    send("note", "emails", 1)
    worker.diary.wait("run", 1)
    assert worker.stop() == 0
    assert worker.log.count("cannot be written") == 1


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_is_neither_replaced_nor_removed(sqs, start_worker, tmp_path, kind):
    """Root would else put a file in the place of /dev/stdout, and /dev/null is gone from the host."""
    sqs.create("emails")
    place = tmp_path / "place"
    os.mkfifo(place) if kind == "pipe" else place.mkdir()
    before = place.stat()
    worker = start_worker("-Q", "emails", "-c", "1", "--health-file", str(place))
    worker.wait_ready()

    assert worker.stop() == 0
    assert (place.stat().st_ino, place.stat().st_mode) == (before.st_ino, before.st_mode)
    assert worker.log.count("cannot be written") == 1
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".place")] == []
    asked = subprocess.run(
        [sys.executable, "-m", "pyqs_celery", "health", "--file", str(place)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (asked.returncode, "no regular file" in asked.stdout) == (1, True)


# -- ECS and jobs ----------------------------------------------------------------------------------


class Agent:
    """ECS's agent: keeps what it is told, and when."""

    def __init__(self) -> None:
        self.told: list[tuple[float, str, dict[str, Any]]] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.told.append((time.time(), self.path, body))
                answer = json.dumps({"protection": body}).encode()
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/api/x"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@pytest.fixture
def agent():
    found = Agent()
    yield found
    found.close()


def test_ecs_spares_a_task_while_it_is_busy(sqs, start_worker, send, tmp_path, agent):
    sqs.create("emails")
    os.mkfifo(tmp_path / "gate")
    worker = start_worker("-Q", "emails", "-c", "1", "--ecs-task-protection", ECS_AGENT_URI=agent.address)
    worker.wait_ready()
    sqs.wait_polled("emails")
    assert agent.told == [], "no calls while idle"

    send("pass_gate", "emails", 1, str(tmp_path / "gate"))
    worker.diary.wait("start", 1)
    began = next(e for e in worker.diary.entries() if e["event"] == "start")["at"]
    until(lambda: agent.told, "it is protected")
    at, path, body = agent.told[0]
    assert path == "/api/x/task-protection/v1/state"
    assert body == {"ProtectionEnabled": True, "ExpiresInMinutes": 2}
    assert at - began < 1

    (tmp_path / "gate").write_text("")
    worker.diary.wait("end", 1)
    ended = next(e for e in worker.diary.entries() if e["event"] == "end")["at"]
    until(lambda: len(agent.told) == 2, "it is cleared")
    assert agent.told[1][2] == {"ProtectionEnabled": False}
    assert agent.told[1][0] - ended < 5
    assert worker.stop() == 0
    assert len(agent.told) == 2


def test_a_failing_ecs_agent_harms_nobody(sqs, start_worker, send, agent):
    sqs.create("emails")
    agent.status = 500
    worker = start_worker("-Q", "emails", "-c", "1", "worker_ecs_task_protection=true", ECS_AGENT_URI=agent.address)
    worker.wait_ready()
    for number in range(20):
        send("note", "emails", number)
    worker.diary.wait("run", 20)
    sqs.wait_empty("emails")
    assert worker.stop() == 0
    assert worker.log.count("ECS task protection could not be changed") == 1


def test_a_job_ends_when_idle_with_nothing_in_flight(sqs, start_worker, send):
    sqs.create("emails")
    for number in range(30):
        send("note", "emails", number)
    worker = start_worker("-Q", "emails", "-c", "2", "--exit-when-idle", "2")

    assert worker.wait() == 0
    worker.check_nobody_left()
    assert sum(worker.diary.count("run").values()) == 30
    assert sqs.left("emails") == 0
    assert "--exit-when-idle" in worker.log


# -- what it costs ---------------------------------------------------------------------------------

MEASURED_SECONDS = float(os.environ.get("PYQS_CELERY_CPU_SECONDS", "10"))
"""PAINS asks for 60 s; ten show the same."""


@pytest.mark.parametrize("state", ["idle", "saturated"])
def test_manager_and_consumer_use_less_than_a_hundredth_of_a_core(sqs, probed, send, tmp_path, state):
    """With all of health on, and more messages waiting than slots."""
    sqs.create("emails")
    os.mkfifo(tmp_path / "gate")
    waits = json.dumps({"broker_transport_options": {"wait_time_seconds": 10}})
    worker = probed("-Q", "emails", "-c", "2", PROJ_CONF=waits)
    if state == "saturated":
        for number in range(50):
            send("pass_gate", "emails", number, str(tmp_path / "gate"))
        worker.worker.diary.wait("start", 2)
    worker.wait_green()
    parents = [worker.worker.process.pid, worker.worker.family()[0]]

    before, began = processor_seconds(*parents), time.monotonic()
    until(lambda: time.monotonic() - began >= MEASURED_SECONDS, "the time is over", MEASURED_SECONDS + 10)
    spent = processor_seconds(*parents) - before

    print(f"{state}: {spent:.2f} s of CPU in {MEASURED_SECONDS:g} s")
    assert spent < 0.01 * MEASURED_SECONDS + 0.02, "two ticks of the clock are not measured"
    assert worker.is_green()
