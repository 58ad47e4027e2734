"""What a person gets wrong is answered in one sentence with Celery's exit code, and no traceback unless asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.embedded import ROOT
from tests.support.golden import captured
from tests.support.worker import APP

pytestmark = pytest.mark.processes


def run(*arguments, folder, text=None, **variables):
    """The command line in a clean environment: no credentials, no region, no home."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT}{os.pathsep}{APP}",
        "HOME": str(folder),
        "AWS_EC2_METADATA_DISABLED": "true",
        "DIARY": str(folder / "diary"),
        "PYQS_CELERY_CONTROL_DIR": str(folder.with_name(f"{folder.name}-control")),
        "C_FORCE_ROOT": "1",
        **variables,
    }
    (folder / "diary").touch()
    return subprocess.run(
        [sys.executable, "-m", "pyqs_celery", *arguments],
        env=environment,
        cwd=folder,
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


KEYS = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "us-east-1"}
WRONG = {
    "no such module": (["-A", "no_such_module", "worker"], KEYS, 2, "no_such_module"),
    "no app in it": (["-A", "json", "worker"], KEYS, 2, "holds no Celery application"),
    "an unknown pool": (["-A", "proj", "worker", "-P", "quantum"], KEYS, 2, "no such pool; there are prefork, threads"),
    "what SQS cannot": (["-A", "proj", "inspect", "ping"], KEYS, 69, "no broadcast"),
    "a command that is Celery's": (["-A", "proj", "graph"], KEYS, 2, "not here"),
    "arguments that are no JSON": (["-A", "proj", "call", "x", "-a", "{"], KEYS, 2, "is not JSON"),
    "an eta that is no time": (["-A", "proj", "call", "x", "--eta", "soon"], KEYS, 2, "ISO 8601"),
    "no such scheduler": (["-A", "proj", "beat", "-S", "no_such:Scheduler"], KEYS, 1, "no_such"),
    "a schedule without a task": (
        ["-A", "proj", "beat"],
        {**KEYS, "PROJ_CONF": json.dumps({"beat_schedule": {"a": {"schedule": 1}}})},
        1,
        "'a'] has no task",
    ),
    "a lock that is no FIFO queue": (
        ["-A", "proj", "beat"],
        {**KEYS, "PROJ_CONF": json.dumps({"beat_lock_queue": "lock"})},
        1,
        "must be a FIFO queue",
    ),
    "an unknown option": (["-A", "proj", "worker", "--no-such"], KEYS, 2, "No such option"),
    "an unknown command": (["-A", "proj", "wurker"], KEYS, 2, "No such command"),
    "-A behind worker": (["worker", "-A", "proj"], KEYS, 2, "stands before the command"),
    "no concurrency": (["-A", "proj", "worker", "-c", "many"], KEYS, 2, "concurrency is a whole number"),
    "another broker": (
        ["-A", "proj", "-b", "redis://localhost", "worker"],
        {**KEYS, "PROJ_CONF": "{}"},
        3,
        "is not for SQS",
    ),
    "predefined queues without url": (
        ["-A", "proj", "worker"],
        {**KEYS, "PROJ_CONF": json.dumps({"broker_transport_options": {"predefined_queues": {"a": {}}}})},
        3,
        "url",
    ),
    "no credentials": (
        ["-A", "proj", "worker", "-Q", "a"],
        {"AWS_DEFAULT_REGION": "us-east-1"},
        3,
        "no AWS credentials",
    ),
    "an endpoint without http": (
        ["-A", "proj", "worker", "-Q", "a"],
        {**KEYS, "AWS_ENDPOINT_URL_SQS": "127.0.0.1:9324"},
        3,
        "begins with http:// or https://",
    ),
    "no such profile": (
        ["-A", "proj", "worker", "-Q", "a"],
        {"AWS_DEFAULT_REGION": "us-east-1", "AWS_PROFILE": "nope"},
        3,
        "The config profile (nope) could not be found",
    ),
    "nodes of multi": (["multi", "start"], KEYS, 2, "name the nodes"),
    "flower": (["-A", "proj", "flower"], KEYS, 2, "SQS has no events"),
    "a module that imports what is not there": (
        ["-A", "imports_nothing", "worker"],
        KEYS,
        2,
        "imports_nothing.py, line 3",
    ),
    "memory and prefork": (
        ["-A", "proj", "worker", "-Q", "a"],
        {**KEYS, "PROJ_CONF": json.dumps({"broker_url": "memory://"})},
        3,
        "they need -P threads",
    ),
    "an include that is not there": (
        ["-A", "proj", "worker", "-Q", "a"],
        {**KEYS, "PROJ_CONF": json.dumps({"include": ["no_such_module_to_include"]})},
        3,
        "no_such_module_to_include",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_answered_in_a_sentence(tmp_path, case):
    arguments, variables, code, words = WRONG[case]

    done = run(*arguments, folder=tmp_path, **variables)

    assert words in done.stderr, done.stderr
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_the_traceback_comes_when_asked_for(tmp_path):
    done = run("--traceback", "-A", "no_such_module", "worker", folder=tmp_path, **KEYS)

    assert "Traceback" in done.stderr
    assert done.returncode == 2


def test_root_opens_no_pickles(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root is refused")
    settings = json.dumps({"accept_content": ["json", "pickle"]})

    done = run("-A", "proj", "worker", "-Q", "a", folder=tmp_path, **KEYS, PROJ_CONF=settings, C_FORCE_ROOT="")

    assert "reads no pickles" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("kind", ["503", "throttle", "reset"])
def test_an_endpoint_in_trouble_is_waited_for(sqs, start_worker, send, kind):
    sqs.create("emails")
    send("note", "emails", 1)
    sqs.faults({"kind": kind, "seconds": 2})

    worker = start_worker("-Q", "emails", "-c", "1")

    worker.wait_logged("Trying again")
    worker.diary.wait("run", 1, 60)
    assert worker.stop() == 0


def test_an_endpoint_that_refuses_connections_is_waited_for(start_worker):
    worker = start_worker("-Q", "emails", "-c", "1", AWS_ENDPOINT_URL_SQS="http://127.0.0.1:9")

    worker.wait_logged("SQS cannot be reached")
    assert worker.process.poll() is None
    assert worker.stop() == 0


@pytest.mark.timeout(180)
def test_faults_of_every_kind_lose_nothing(sqs, start_worker, send):
    """A fifth of all requests go wrong, some after their work was done; every task still runs, few of them twice."""
    sqs.create("emails")
    with send.app.publisher().batch():
        for number in range(200):
            send("note", "emails", number)
    sqs.faults(*({"kind": kind, "rate": 0.05} for kind in ("500", "throttle", "reset", "reset_after")))

    worker = start_worker("-Q", "emails", "-c", "4", "worker_lease_seconds=10")

    worker.diary.wait("run", 200, 120)
    sqs.faults()
    sqs.wait_empty("emails", 60)
    assert set(worker.diary.count("run")) == set(range(200))
    assert worker.stop() == 0


def test_a_pid_file_of_a_living_worker_is_respected(sqs, start_worker, tmp_path):
    sqs.create("emails")
    pidfile = tmp_path / "worker.pid"
    first = start_worker("-Q", "emails", "-c", "1", "--pidfile", str(pidfile))
    first.wait_ready()

    second = start_worker("-Q", "emails", "-c", "1", "--pidfile", str(pidfile))

    assert second.wait() == 73
    assert first.stop() == 0
    assert not pidfile.exists()


def test_decode_prints_a_line_for_each_message_or_its_error(tmp_path):
    name = next(name for name in captured() if name.startswith("celery-5.7.0") and "json" in name)
    good = json.dumps(captured()[name]["sqs_message"])

    done = run("decode", folder=tmp_path, text=f'{good}\n{{"Body": "nonsense", "MessageId": "m2"}}\n')

    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert first["task"] == captured()[name]["expected"]["task"]
    assert (second["message_id"], second["error"]) == ("m2", "EnvelopeError")
    assert done.returncode == 1


def test_pyqs_command_line_serves_queues_without_an_application(sqs, start_worker, tmp_path):
    """PyQS's way: queues are named, and a message names the function; only modules of those queues' names are imported."""
    folder = tmp_path / "work"
    folder.mkdir(exist_ok=True)
    (folder / "mailing.py").write_text(
        "import json, os\nfrom pyqs_celery import task\n\n\n@task()\ndef send(key):\n"
        "    open(os.environ['DIARY'], 'a').write(json.dumps({'event': 'run', 'key': key}) + '\\n')\n"
    )
    sqs.create("mailing-send")
    for task, key in (("mailing.send", "good"), ("os.system", "true")):
        sqs.put("mailing-send", json.dumps({"task": task, "args": [key], "kwargs": {}}))

    worker = start_worker("mailing.*", "--concurrency", "2", app=None)

    worker.diary.wait("run", 1)
    worker.wait_logged("Received unregistered task of type 'os.system'")
    assert worker.stop() == 0
    assert worker.diary.count("run") == {"good": 1}


def test_the_demo_runs_from_any_folder(tmp_path):
    done = run("demo", folder=tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing is left behind" in done.stdout
    assert sorted(path.name for path in Path(tmp_path).iterdir()) == ["diary"]
