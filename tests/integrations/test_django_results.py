"""django-celery-results on us: its tables, its counters, its cache back end, beside real Celery's use of them."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.embedded import ROOT
from tests.support.waiting import until
from tests.support.worker import processes_of_session

PROJECT = Path(__file__).parent / "results_project"
pytest.importorskip("django_celery_results")
needs_celery = pytest.mark.skipif(importlib.util.find_spec("celery") is None, reason="real Celery is not installed")


class Project:
    """The project in ``results_project`` on a database of its own."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{PROJECT}",
            "SQLITE_FILE": str(folder / "db.sqlite3"),
            "C_FORCE_ROOT": "1",
            **variables,
        }
        self.log = folder / "worker.log"

    def run(self, *words: Any, fails: bool = False, **variables: str) -> str:
        done = subprocess.run(
            [sys.executable, *map(str, words)],
            env={**self.environment, **variables},
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        assert (done.returncode != 0) is fails, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n{self.worker_log()}"
        return done.stderr if fails else done.stdout

    def ask(self, *words: Any, **variables: str) -> Any:
        return json.loads(self.run(*words, **variables).splitlines()[-1])

    def worker_log(self) -> str:
        return self.log.read_text()[-6000:] if self.log.exists() else ""

    def start_worker(self, *words: str) -> subprocess.Popen[bytes]:
        with self.log.open("w") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "pyqs_celery", "-A", "shop", "worker", "-c", "3", "-l", "INFO", *words],
                env=self.environment,
                cwd=PROJECT,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request):
    """The variables that say where the project's database is."""
    if request.param == "sqlite":
        return {}
    server = request.getfixturevalue("postgres")
    name = f"results_{os.urandom(6).hex()}"
    server.create(name)
    return {"POSTGRES_PORT": str(server.port), "POSTGRES_DATABASE": name}


@pytest.fixture
def project(database, tmp_path):
    made = Project(tmp_path, **database)
    made.run("manage.py", "migrate", "-v", "0")
    made.run("manage.py", "createcachetable")
    return made


def test_results_of_a_worker_are_there_for_those_who_wait(database, sqs, tmp_path):
    # given a project with a worker of three children
    project = Project(tmp_path, **database, **sqs.environment, EXTENDED="1")
    project.run("manage.py", "migrate", "-v", "0")
    worker = project.start_worker()

    # when one of everything is sent and waited for
    try:
        until(lambda: " ready." in project.worker_log() or worker.poll() is not None, "the worker to be ready")
        found = project.ask("calls.py", tmp_path)
        worker.terminate()
        assert worker.wait(30) == 0, project.worker_log()
    finally:
        for pid in processes_of_session(worker.pid):
            os.kill(pid, signal.SIGKILL)

    # then all is as it would be with Celery, and members that died were counted once
    hostname = found["row"].pop()
    assert found == {
        "value": 5,
        "failure": ["ValueError", "no"],
        "traceback": True,
        "parent": True,
        "children": [2],
        "group": [2, 4],
        "chord": 380,
        "nested": 12,
        "killed member": 6,
        "failed chord": ["ChordError", found["failed chord"][1]],
        "counters": 0,
        "row": ["FAILURE", "jobs.tasks.broken", "application/json", "utf-8"],
    }
    assert "raised ValueError('bad')" in found["failed chord"][1]
    assert "@" in hostname


@needs_celery
@pytest.mark.parametrize("extended", ["", "1"])
@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_rows_are_the_same_as_celerys(project, extended, serializer):
    options = {"BROKER": "memory://", "EXTENDED": extended, "SERIALIZER": serializer}

    theirs = project.ask("rows.py", SIDE="celery", **options)
    ours = project.ask("rows.py", SIDE="ours", **options)

    assert len(ours) == 8
    assert ours == theirs


@needs_celery
def test_a_chord_that_celery_began_is_ended_here_and_the_other_way_round(project):
    here = {"BROKER": "memory://", "SIDE": "ours"}
    there = {"BROKER": "memory://", "SIDE": "celery"}

    began = project.ask("chord_parts.py", "begin", 0, 1, 1, **here)
    more = project.ask("chord_parts.py", 2, **there)
    ended = project.ask("chord_parts.py", 1, 3, 3, **here)
    again = project.ask("chord_parts.py", "begin", 0, 3, **there)
    by_us = project.ask("chord_parts.py", 1, 1, **here)
    by_them = project.ask("chord_parts.py", 2, **there)

    assert (began, more, ended) == (
        {"sent": [], "left": [2]},
        {"sent": [], "left": [1]},
        {"sent": [[[0, 1, 2, 3]]], "left": []},
    )
    assert (again["left"], by_us["left"], by_them) == ([2], [1], {"sent": [[[0, 1, 2, 3]]], "left": []})


@pytest.mark.parametrize("ran", [False, True])
def test_a_chord_whose_last_member_died_when_it_called_the_body_is_completed_once(project, ran):
    # given members that have reported, the last of which was killed before it could say that the body is called
    here = {"BROKER": "memory://"}
    project.ask("chord_parts.py", "begin", 0, 1, 2, **here)
    project.run("chord_parts.py", "dies", 3, fails=True, **here)

    # when that member's message comes again, after the body has run or not
    found = project.ask("chord_parts.py", *(["body"] if ran else []), 3, 3, 2, **here)

    # then the body is called if it was not
    assert found == {"sent": [] if ran else [[[0, 1, 2, 3]]], "left": []}


@pytest.mark.parametrize("cache", ["default", "shared"])
def test_results_in_djangos_cache(project, cache):
    code = (
        "import django; django.setup()\n"
        "from shop import celery_app as app\n"
        "app.backend.store_result('a', {'x': 1}, 'SUCCESS')\n"
        "app.backend.store_result('b', KeyError('k'), 'FAILURE')\n"
        "print(type(app.backend).__module__, app.AsyncResult('a').get(timeout=5), repr(app.AsyncResult('b').result))"
    )
    settings = {"DJANGO_SETTINGS_MODULE": "shop.settings", "BROKER": "memory://", "RESULTS": "django-cache"}

    shown = project.run("-c", code, CACHE=cache, **settings)

    assert shown.strip() == "django_celery_results.backends.cache {'x': 1} KeyError('k')"


def test_the_contract_of_stores_is_kept(database, tmp_path):
    project = Project(tmp_path, **database, DJANGO_SETTINGS_MODULE="shop.settings")

    shown = project.run(
        *("-m", "pytest", ROOT / "tests/integrations/django_results_contract.py", "--rootdir", ROOT, "-q"),
        *("-c", ROOT / "pyproject.toml", "-p", "pyqs_celery.contrib.as_celery", "-p", "no:cacheprovider"),
        # threads of tests leave Django's connections to the end of the process
        *("-W", "ignore::ResourceWarning"),
    )

    assert " passed" in shown
    assert "failed" not in shown


USE = "from pyqs_celery import Celery\nCelery('x', broker='memory://', backend='django-db').backend"
WITHOUT_CELERY = """
import sys
class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name == "celery":
            raise ModuleNotFoundError("No module named 'celery'", name="celery")
sys.meta_path.insert(0, Nowhere())
"""


@pytest.mark.parametrize(
    "before",
    [pytest.param("", marks=needs_celery), WITHOUT_CELERY],
    ids=["celery is installed", "celery is not installed"],
)
@pytest.mark.parametrize("backend", ["django-db", "django-cache", "django_celery_results.backends:DatabaseBackend"])
def test_without_the_alias_it_says_what_to_do(tmp_path, before, backend):
    settings = (
        "from django.conf import settings\nimport django\n"
        "settings.configure(INSTALLED_APPS=['django.contrib.contenttypes', 'django_celery_results'])\n"
        "try: django.setup()\nexcept ImportError: pass\n"
    )

    shown = Project(tmp_path).run("-c", before + settings + USE.replace("django-db", backend), fails=True)

    last = shown.strip().splitlines()[-1]
    assert last.startswith(f"pyqs_celery.exceptions.ImproperlyConfigured: result_backend {backend!r}")
    assert "call pyqs_celery.install_as_celery() before anything imports celery" in last


def test_an_application_that_is_not_installed_is_told(tmp_path):
    code = (
        "import pyqs_celery; pyqs_celery.install_as_celery()\n"
        "from django.conf import settings\nimport django\n"
        "settings.configure(INSTALLED_APPS=['django.contrib.contenttypes'])\ndjango.setup()\n"
    )

    shown = Project(tmp_path).run("-c", code + USE, fails=True)

    assert "'django_celery_results' in INSTALLED_APPS" in shown.splitlines()[-1]
