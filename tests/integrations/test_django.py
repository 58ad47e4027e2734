"""A Django project as Celery's guide writes it: set up, discovered, counted by a worker, on SQLite and PostgreSQL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.embedded import ROOT
from tests.support.waiting import until
from tests.support.worker import processes_of_session

PROJECT = Path(__file__).parent / "django_project"
pytest.importorskip("django")


@pytest.fixture(params=["sqlite", "postgresql"])
def project(request, sqs, tmp_path):
    """``project(*words)`` runs a command of the project and gives what it printed."""
    environment = {
        **os.environ,
        **sqs.environment,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{PROJECT}",
        "SQLITE_FILE": str(tmp_path / "db.sqlite3"),
        "C_FORCE_ROOT": "1",
    }
    if request.param == "postgresql":
        environment["POSTGRES_PORT"] = str(request.getfixturevalue("postgres").port)

    def run(*words):
        done = subprocess.run(
            [sys.executable, *map(str, words)],
            env=environment,
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    run.environment = environment
    run("manage.py", "migrate", "--run-syncdb", "-v", "0")
    if request.param == "postgresql":
        run("-c", "import votes; from polls.models import Vote; Vote.objects.all().delete()")
    return run


def test_votes_are_counted_once_committed_by_children_with_connections_of_their_own(project, tmp_path):
    # given votes, each sent to be counted when its transaction was committed
    told = json.loads(project("vote.py", 12).splitlines()[-1])
    assert told == {"before": list(range(12)), "sent": ["polls.tasks.count"] * 12}

    # when the project's own command runs a worker of three children
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen(
            [sys.executable, "manage.py", "pyqs_celery", "worker", "-c", "3", "-l", "INFO"],
            env=project.environment,
            cwd=PROJECT,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        until(
            lambda: (tmp_path / "log").read_text().count("succeeded") >= 12 or worker.poll() is not None,
            "all votes to be counted",
        )
        worker.terminate()
        assert worker.wait(30) == 0, (tmp_path / "log").read_text()
    finally:
        for pid in processes_of_session(worker.pid):
            os.kill(pid, signal.SIGKILL)

    # then all are counted, no connection was used by two processes, and none was the manager's
    votes = json.loads(project("votes.py"))
    assert len(votes) == 12
    pairs = {(vote["counted_by"], vote["connection"]) for vote in votes}
    assert None not in {number for pair in pairs for number in pair}
    assert len({process for process, _ in pairs}) == len({connection for _, connection in pairs})
    assert worker.pid not in {process for process, _ in pairs}


def test_the_projects_zone_and_tasks_are_the_applications(project):
    shown = project(
        "-c",
        "from site_app import celery_app as a; a.loader.import_default_modules(); "
        "print(a.timezone, sorted(n for n in a.tasks if not n.startswith('celery.')), hasattr(a.Task, 'delay_on_commit'))",
    )

    assert shown.strip() == "Europe/Berlin ['polls.tasks.count', 'site_app.celery.debug_task'] True"


def test_a_project_that_fails_its_checks_does_not_start(project):
    environment = {**project.environment, "SQLITE_FILE": "x", "PYTHONPATH": f"{ROOT}{os.pathsep}{PROJECT}"}
    code = (
        "import django, site_app.settings as s; s.DEFAULT_AUTO_FIELD = 'no.such.Field'\n"
        "from pyqs_celery.bin import run; import sys; sys.exit(run(['-A', 'site_app', 'worker']))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert "no.such.Field" in done.stderr
