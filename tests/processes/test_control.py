"""Local control: what workers of this host are asked and told, in Celery's words, and what nobody can do to them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyqs_celery import Celery, nodes
from pyqs_celery.exceptions import ControlUnavailable
from tests.support.embedded import ROOT, EmbeddedSqs
from tests.support.proc import descriptors
from tests.support.waiting import until
from tests.support.worker import APP, Worker

pytestmark = pytest.mark.processes
NAME = "w@here"
FACTS = {
    *("id", "name", "args", "kwargs", "type", "hostname", "time_start", "acknowledged", "delivery_info", "worker_pid")
}


class Controlled:
    """A worker, and asking it."""

    def __init__(self, sqs: EmbeddedSqs, worker: Worker) -> None:
        self.sqs = sqs
        self.worker = worker
        self.folder = worker.diary.path.parent / "control"
        worker.wait_ready()

    def ask(self, verb: str, /, **arguments: Any) -> Any:
        return nodes.ask(verb, arguments, destination=[NAME], timeout=5, folder=str(self.folder)).replies[NAME]

    def is_there(self) -> bool:
        return nodes.ask("ping", {}, folder=str(self.folder)).replies == {NAME: {"ok": "pong"}}

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pyqs_celery", "-A", "proj", *arguments],
            env={
                **os.environ,
                **self.sqs.environment,
                "PYTHONPATH": f"{ROOT}{os.pathsep}{APP}",
                "DIARY": str(self.worker.diary.path),
                "PYQS_CELERY_CONTROL_DIR": str(self.folder),
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def socket(self) -> socket.socket:
        (path,) = self.folder.glob("*.sock")
        sock = until(lambda: _connected(path), "there is room in the line")
        sock.settimeout(10)
        return sock

    def children(self) -> list[int]:
        return self.ask("stats")["pool"]["processes"]


def _connected(path: Path) -> socket.socket | None:
    try:
        return nodes.connect(path)
    except BlockingIOError:
        return None


@pytest.fixture
def controlled(sqs, start_worker) -> Callable[..., Controlled]:
    return lambda *arguments, **options: Controlled(sqs, start_worker("-n", NAME, *arguments, **options))


@pytest.fixture
def gate(tmp_path) -> Path:
    os.mkfifo(tmp_path / "gate")
    return tmp_path / "gate"


# -- asking ----------------------------------------------------------------------------------------


def test_a_probe_of_celerys_turns_green_and_makes_no_queue(sqs, controlled):
    sqs.create("emails")
    worker = controlled("-Q", "emails", "-c", "1")
    before = sorted(sqs.ask("state"))

    found = worker.command("inspect", "ping", "-d", NAME)
    assert found.returncode == 0, found.stderr
    assert found.stdout == f"->  {NAME}: OK\n        pong\n\n1 node online.\n"
    assert json.loads(worker.command("inspect", "ping", "-j", "-t", "5").stdout) == {NAME: {"ok": "pong"}}
    assert worker.command("status").stdout == f"->  {NAME}: OK\n\n1 node online.\n"

    missing = worker.command("inspect", "ping", "-d", f"{NAME},other@here")
    assert missing.returncode == 0
    nobody = worker.command("inspect", "ping", "-d", "other@here")
    assert nobody.returncode == 69
    assert "No nodes replied within time constraint" in nobody.stderr
    assert worker.command("inspect", "pong").returncode == 2

    for verb in nodes_verbs():
        worker.ask(verb)
    assert sorted(sqs.ask("state")) == before
    assert worker.worker.stop() == 0
    assert worker.command("inspect", "ping", "-d", NAME).returncode == 69


def nodes_verbs() -> list[str]:
    from pyqs_celery.app.control import INSPECTS

    return sorted(INSPECTS)


def test_what_runs_waits_and_is_known_is_told_as_celery_tells_it(sqs, controlled, send, gate):
    sqs.create("emails")
    worker = controlled("-Q", "emails", "-c", "1", "--prefetch-multiplier", "4")
    running = send("pass_gate", "emails", 1, str(gate))
    worker.worker.diary.wait("start", 1)
    waiting = send("note", "emails", 2)
    until(lambda: worker.ask("reserved"), "the second is in hand")

    (active,), (reserved,) = worker.ask("active"), worker.ask("reserved")
    assert set(active) == set(reserved) == FACTS
    assert active["id"] == running.id
    assert active["name"] == active["type"] == "proj.pass_gate"
    assert active["args"] == f"(1, '{gate}')"
    assert active["worker_pid"] == worker.children()[0]
    assert abs(active["time_start"] - time.time()) < 60
    assert active["delivery_info"]["routing_key"] == "emails"
    assert (active["acknowledged"], active["hostname"]) == (False, NAME)
    assert (reserved["id"], reserved["time_start"], reserved["worker_pid"]) == (waiting.id, None, None)
    assert {key: value[0] for key, value in worker.ask("query_task", ids=[running.id, waiting.id, "x"]).items()} == {
        running.id: "active",
        waiting.id: "reserved",
    }
    assert worker.ask("scheduled") == []
    stats = worker.ask("stats")
    assert stats["total"] == {"proj.pass_gate": 1}
    assert stats["pid"] == worker.worker.process.pid
    assert stats["pool"]["max-concurrency"] == 1
    assert [queue["name"] for queue in worker.ask("active_queues")] == ["emails"]
    assert "proj.note" in worker.ask("registered")
    assert worker.ask("report")["ok"].startswith("software -> pyqs-celery")
    assert "test" not in json.dumps(worker.ask("conf").get("broker_url", ""))
    settings = worker.ask("conf", with_defaults=True)
    assert settings["task_default_queue"] == "celery"
    assert settings["worker_shutdown_timeout"] == 25.0
    assert settings["result_expires"] == "1 day, 0:00:00"
    gate.write_text("")
    worker.worker.diary.wait("run", 1)


def test_python_asks_the_same_workers(sqs, controlled, monkeypatch):
    sqs.create("emails")
    worker = controlled("-Q", "emails", "-c", "1")
    monkeypatch.setenv("PYQS_CELERY_CONTROL_DIR", str(worker.folder))
    control = Celery("asker", broker="sqs://", set_as_current=False).control
    heard: list[Any] = []

    assert control.ping() == [{NAME: {"ok": "pong"}}]
    assert control.inspect().ping() == {NAME: {"ok": "pong"}}
    assert control.inspect([NAME]).active() == {NAME: []}
    assert control.inspect(NAME).active() == []
    assert control.inspect(pattern="w@*").stats()[NAME]["pool"]["max-concurrency"] == 1
    assert control.broadcast("ping", reply=True, callback=heard.append) == heard == [{NAME: {"ok": "pong"}}]
    assert control.broadcast("ping") is None
    assert control.inspect().registered("name")[NAME][0].endswith("]")
    assert control.rate_limit("proj.note", "1/m", reply=True) == [{NAME: {"ok": "new rate limit set successfully"}}]
    began = time.monotonic()
    for impossible in (
        lambda: control.inspect(["other@there"]).ping(),
        control.enable_events,
        lambda: control.broadcast("autoscale", {"max": 3}),
        lambda: control.inspect().hello("x"),
    ):
        with pytest.raises(ControlUnavailable, match="SQS does not have"):
            impossible()
    assert time.monotonic() - began < 3, "four of them, none of which waits for an answer for a second"

    consumer = worker.worker.wait_family(2)[0]
    os.kill(consumer, signal.SIGSTOP)
    assert control.inspect(timeout=0.3).ping() is None, "there, but it does not answer: Celery's None"
    os.kill(consumer, signal.SIGCONT)
    until(lambda: control.inspect().ping(), "it answers again")


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_the_other_pools_answer_too(sqs, controlled, send, pool):
    sqs.create("emails")
    worker = controlled("-Q", "emails", "-P", pool, "-c", "2")
    send("note", "emails", 1)
    worker.worker.diary.wait("run", 1)

    assert worker.ask("ping") == {"ok": "pong"}
    assert worker.ask("stats")["pid"] == worker.worker.process.pid
    grown = worker.ask("pool_grow")
    assert ("error" in grown) == (pool == "solo")
    if pool == "threads":
        until(lambda: len(worker.children()) == 3, "a thread more")
        assert worker.ask("pool_shrink", n=2) == {"ok": "pool will shrink"}
        until(lambda: len(worker.children()) == 1, "two fewer")
        send("note", "emails", 2)
        worker.worker.diary.wait("run", 2)
    assert worker.ask("shutdown")["ok"]
    assert worker.worker.wait() == 0


def test_answers_come_at_once_under_load(sqs, controlled, send):
    sqs.create("emails")
    worker = controlled("-Q", "emails", "-c", "2")
    sending = threading.Thread(target=lambda: [send("note", "emails", number) for number in range(300)])
    sending.start()
    times = []
    while sum(worker.worker.diary.count("run").values()) < 300:
        began = time.monotonic()
        assert len(worker.ask("active")) <= 2
        times.append(time.monotonic() - began)
    sending.join()
    assert sorted(times)[len(times) // 2] < 0.2


# -- telling ---------------------------------------------------------------------------------------


def test_the_pool_grows_shrinks_and_restarts_and_loses_nothing(sqs, controlled, send):
    sqs.create("emails")
    worker = controlled("-Q", "emails", "-c", "2")
    sizes = {"pool_grow": 3, "pool_shrink": -3}
    size, sent = 2, 0
    for verb in ("pool_grow", "pool_restart", "pool_shrink", "pool_restart", "pool_grow", "pool_shrink") * 2:
        for _ in range(20):
            send("grind", "emails", sent, 20_000)
            sent += 1
        size += sizes.get(verb, 0)
        assert "ok" in worker.ask(verb, **({"n": 3} if verb in sizes else {}))
    worker.worker.diary.wait("end", sent, 60)

    assert set(worker.worker.diary.count("end").values()) == set(worker.worker.diary.count("start").values()) == {1}
    until(lambda: len(worker.children()) == size, f"there are {size} children")
    assert len(worker.worker.wait_family(size + 1)) == size + 1
    assert worker.ask("stats")["pool"]["max-concurrency"] == size
    sqs.wait_empty("emails")
    assert worker.worker.stop() == 0


def test_a_shrinking_pool_lets_the_idle_go_first_and_the_busy_finish(sqs, controlled, send, gate):
    sqs.create("emails")
    worker = controlled("-Q", "emails", "-c", "3")
    send("pass_gate", "emails", 1, str(gate))
    worker.worker.diary.wait("start", 1)
    (busy,) = (task["worker_pid"] for task in worker.ask("active"))

    assert worker.ask("pool_shrink", n=2) == {"ok": "pool will shrink"}
    until(lambda: worker.children() == [busy], "the idle are gone")
    assert "at least one must remain" in worker.ask("pool_shrink")["error"]

    assert worker.ask("pool_restart") == {"ok": "reload started"}
    assert worker.children() == [busy]
    gate.write_text("")
    worker.worker.diary.wait("end", 1)
    until(lambda: worker.children() and worker.children() != [busy], "another child takes its place")
    sqs.wait_empty("emails")
    send("note", "emails", 2)
    worker.worker.diary.wait("run", 1)
    assert "exited with" not in worker.worker.log


def test_queues_come_and_go_and_unstarted_messages_go_back(sqs, controlled, send, gate):
    for name in ("emails", "bills", "letters-a"):
        sqs.create(name, VisibilityTimeout=60)
    worker = controlled("-Q", "emails", "-c", "1", "--prefetch-multiplier", "5")
    assert worker.ask("add_consumer", queue="bills") == {"ok": "add consumer bills"}
    sqs.wait_polled("bills")
    assert "ok" in worker.ask("add_consumer", queue="letters-*")
    sqs.wait_polled("letters-a")
    assert {queue["name"] for queue in worker.ask("active_queues")} == {"emails", "bills", "letters-a"}

    send("pass_gate", "emails", 0, str(gate))
    worker.worker.diary.wait("start", 1)
    for number in range(3):
        send("note", "bills", number)
    until(lambda: sqs.state("bills")["inflight"] >= 1, "some bills are in hand")
    assert "ok" in worker.ask("cancel_consumer", queue="bills")
    assert "ok" in worker.ask("cancel_consumer", queue="letters-*")
    until(lambda: sqs.state("bills")["visible"] == 3, "they are given back", 20)
    until(lambda: [queue["name"] for queue in worker.ask("active_queues")] == ["emails"], "and served no more")

    gate.write_text("")
    worker.worker.diary.wait("end", 1)
    send("note", "emails", "after")
    worker.worker.diary.wait("run", 1)
    assert worker.worker.diary.count("run") == {"after": 1}
    assert sqs.state("bills")["visible"] == 3

    worker.ask("add_consumer", queue="bills")
    worker.worker.diary.wait("run", 4)
    assert sorted(worker.worker.diary.count("run").values()) == [1, 1, 1, 1]


def test_limits_are_changed_while_it_runs(sqs, controlled, send):
    sqs.create("emails")
    worker = controlled("-Q", "emails", "-c", "2")
    assert "ok" in worker.ask("time_limit", task_name="proj.pass_gate", hard=0.5)
    send("pass_gate", "emails", 1, "/dev/fd/0")
    assert "ok" in worker.ask("rate_limit", task_name="proj.note", rate_limit="2/s")
    began = time.monotonic()
    for number in range(4):
        send("note", "emails", number)
    worker.worker.diary.wait("run", 4)
    assert time.monotonic() - began >= 1.4

    assert worker.ask("rate_limit", task_name="proj.note", rate_limit="")["ok"] == "rate limit disabled successfully"
    os.mkfifo(worker.folder.parent / "shut")
    send("pass_gate", "emails", 2, str(worker.folder.parent / "shut"))
    worker.worker.wait_logged("Hard time limit (0.5s) exceeded")


def test_the_command_line_tells_what_was_refused(sqs, controlled):
    sqs.create("emails")
    worker = controlled("-Q", "emails", "-c", "1")

    assert worker.command("control", "pool_grow", "1").returncode == 0
    refused = worker.command("control", "rate_limit", "proj.none", "1/s")
    assert (refused.returncode, "unknown task" in refused.stdout) == (1, True)
    for wrong in (["pool_grow", "x"], ["rate_limit", "a"], ["enable_events"], ["nonsense"], []):
        assert worker.command("control", *wrong).returncode == 2, wrong
    assert worker.command("control", "shutdown", "-d", "other@here").returncode == 69
    done = worker.command("control", "shutdown")
    assert done.returncode == 0
    assert worker.worker.wait() == 0


@pytest.mark.parametrize(
    ("verb", "arguments", "says"),
    [
        ("pool_grow", {"n": 0}, "at least 1"),
        ("pool_grow", {"n": "3"}, "at least 1"),
        ("pool_grow", {"n": 10**9}, "at most"),
        ("pool_shrink", {"n": True}, "at least 1"),
        ("rate_limit", {"task_name": "proj.note", "rate_limit": "often"}, "10/m"),
        ("rate_limit", {"task_name": ["x"], "rate_limit": "1/s"}, "unknown task"),
        ("time_limit", {"task_name": "proj.note", "soft": "x"}, "must be seconds"),
        ("time_limit", {"task_name": "proj.note", "soft": 3, "hard": 2}, "must not be above"),
        ("add_consumer", {}, "name of a queue"),
        ("add_consumer", {"queue": "naïve"}, "letters, digits"),
        ("cancel_consumer", {"queue": 7}, "name of a queue"),
        ("query_task", {"ids": [1, 2]}, "list of names"),
        ("registered", {"taskinfoitems": 3}, "list of names"),
        ("enable_events", {}, "read the worker's log"),
        ("no_such\nthing", {}, "there is no command"),
    ],
)
def test_bad_input_is_answered_in_words(shared, verb, arguments, says):
    assert says in shared.ask(verb, **arguments)["error"]


@pytest.fixture(scope="module")
def shared(sqs_server, tmp_path_factory):
    """One worker for tests that do not harm it."""
    folder = tmp_path_factory.mktemp("shared")
    sqs_server.create("shared")
    worker = Worker(sqs_server, folder, "-n", NAME, "-Q", "shared", "-c", "1")
    try:
        yield Controlled(sqs_server, worker)
    finally:
        worker.kill_all()


# -- hostility -------------------------------------------------------------------------------------


def test_garbage_floods_and_silence_harm_nobody(sqs, controlled, send):
    sqs.create("emails")
    worker = controlled("-Q", "emails", "-c", "1")
    manager = worker.worker.process.pid
    opened = descriptors(manager)

    for garbage in (
        b"\x00\xff\n",
        b"[]\n",
        b'{"command": 3}\n',
        b"[" * 60_000 + b"\n",
        b'{"command":"ping","arguments":[1]}\n',
    ):
        with worker.socket() as sock:
            sock.sendall(garbage)
            assert b"error" in sock.recv(65536)
    ten_megabytes = b"x" * 10_000_000
    with worker.socket() as sock, pytest.raises(ConnectionError):
        sock.sendall(ten_megabytes)
    for _ in range(300):
        worker.socket().close()
    silent = [worker.socket() for _ in range(200)]
    never_reads = worker.socket()
    never_reads.sendall(b'{"command": "stats"}\n')
    for _ in range(100):
        with worker.socket() as sock:
            sock.sendall(b'{"command": "stats"}\n')  # and gone

    until(worker.is_there, "it answers")
    send("note", "emails", 1)
    worker.worker.diary.wait("run", 1)
    for sock in silent:
        sock.settimeout(30)
        assert sock.recv(1) == b"", "who says nothing is hung up on"
        sock.close()
    never_reads.close()
    until(lambda: descriptors(manager) <= opened, "nothing is left open")
    assert worker.worker.stop() == 0


def test_a_frozen_consumer_blocks_neither_the_manager_nor_who_asks(sqs, controlled):
    sqs.create("emails")
    worker = controlled("-Q", "emails", "-c", "1")
    consumer = worker.worker.wait_family(2)[0]
    os.kill(consumer, signal.SIGSTOP)
    try:
        for _ in range(300):
            asked = nodes.ask("stats", {"x": "y" * 30_000}, timeout=0.01, folder=str(worker.folder))
            assert "ok" not in asked.replies.get(NAME, {})
        assert worker.ask("health")["status"] == "unhealthy"
    finally:
        os.kill(consumer, signal.SIGCONT)
    until(worker.is_there, "it answers again")
    assert worker.worker.stop() == 0


def test_only_this_user_can_reach_the_socket(shared):
    (path,) = shared.folder.glob("*.sock")

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(shared.folder.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_is_hung_up_on_even_where_the_modes_let_him(sqs, controlled):
    sqs.create("emails")
    worker = controlled("-Q", "emails", "-c", "1")
    (path,) = worker.folder.glob("*.sock")
    code = (
        "import os, socket, sys; s = socket.socket(socket.AF_UNIX); d = os.open(sys.argv[1], os.O_RDONLY); os.setuid(65534);"
        "s.connect(f'/proc/self/fd/{d}/{sys.argv[2]}'); s.sendall(b'{\"command\": \"shutdown\"}\\n'); print(s.recv(9))"
    )
    path.chmod(0o666)
    worker.folder.chmod(0o755)
    program = [sys.executable, "-c", code, str(worker.folder), path.name]
    done = subprocess.run(program, capture_output=True, text=True, timeout=30, check=False)

    assert done.stdout.strip() == "b''" or "ConnectionReset" in done.stderr or "BrokenPipe" in done.stderr, done
    worker.folder.chmod(0o700)
    assert worker.ask("ping") == {"ok": "pong"}


def test_a_folder_open_to_others_is_not_used(sqs, start_worker, tmp_path):
    sqs.create("emails")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    worker = start_worker("-Q", "emails", "-c", "1", "--control-dir", str(tmp_path / "open"))
    worker.wait_ready()

    assert "There is no local control of this worker" in worker.log
    assert not list((tmp_path / "open").iterdir())


def test_a_socket_left_by_a_killed_worker_is_replaced_and_a_living_one_is_not(sqs, controlled, start_worker):
    sqs.create("emails")
    first = controlled("-Q", "emails", "-c", "1")
    first.worker.process.kill()
    first.worker.check_nobody_left(60)
    assert len(list(first.folder.glob("*.sock"))) == 1

    second = controlled("-Q", "emails", "-c", "1")
    assert [path.name for path in second.folder.glob("*.sock")] == [f"{NAME}.sock"]
    assert second.ask("stats")["pid"] == second.worker.process.pid
    third = start_worker("-n", NAME, "-Q", "emails", "-c", "1")
    third.wait_logged(f"Another worker on this host is named {NAME} too")
    third.wait_ready()
    assert len(list(second.folder.glob("*.sock"))) == 2
    assert third.stop() == 0
    assert second.ask("stats")["pid"] == second.worker.process.pid


def test_of_two_workers_of_one_name_both_are_heard(sqs, controlled, start_worker):
    """Else a probe is green by the one that happens to answer last."""
    sqs.create("emails")
    first = controlled("-Q", "emails", "-c", "1")
    second = start_worker("-n", NAME, "-Q", "emails", "-c", "2")
    second.wait_ready()
    until(lambda: first.command("health").returncode == 0, "both are healthy")
    assert first.command("inspect", "ping").stdout.count("pong") == 2
    assert sorted(json.loads(line)["slots"] for line in first.command("health", "-d", NAME).stdout.splitlines()) == [
        1,
        2,
    ]

    # when one of them says nothing any more
    second.send_signal(signal.SIGSTOP)
    try:
        red = first.command("health", "-d", NAME, "-t", "0.5")
    finally:
        second.send_signal(signal.SIGCONT)

    # then a probe of that name is red
    assert red.returncode == 1
    assert "did not answer" in red.stdout
    assert second.stop() == 0


def test_a_path_longer_than_the_kernel_takes(sqs, start_worker, tmp_path):
    sqs.create("emails")
    folder = tmp_path / ("x" * 100) / ("y" * 100)
    worker = start_worker("-n", f"{'n' * 200}@{'h' * 100}", "-Q", "emails", "-c", "1", "--control-dir", str(folder))
    worker.wait_ready()

    (reply,) = nodes.ask("ping", {}, folder=str(folder)).replies.values()
    assert reply == {"ok": "pong"}


def test_it_can_be_turned_off(sqs, start_worker):
    sqs.create("emails")
    worker = start_worker("-Q", "emails", "-c", "1", "worker_enable_remote_control=false")
    worker.wait_ready()

    assert not (worker.diary.path.parent / "control").exists()


def test_nothing_of_it_listens_on_a_network(shared):
    """A worker's only network sockets are those to SQS."""
    inodes = set()
    for pid in [shared.worker.process.pid, *shared.worker.family()]:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            found = re.match(r"socket:\[(\d+)\]", str(descriptor.readlink()))
            inodes.update(found.groups() if found else ())
    listening = [
        line.split()[9]
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    ]
    assert inodes
    assert not inodes & set(listening)
