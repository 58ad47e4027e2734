"""The swap of imports: what changes, what must not, and what is told."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest

from pyqs_celery.doctor.swap import swap
from tests.support.embedded import ROOT


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from celery import Celery", "from pyqs_celery import Celery"),
        ("from celery import Task as T, shared_task", "from pyqs_celery import Task as T, shared_task"),
        ("import celery", "import pyqs_celery as celery"),
        ("import celery as c", "import pyqs_celery as c"),
        ("import celery.schedules", "import pyqs_celery.schedules, pyqs_celery as celery"),
        ("import os, celery, sys", "import os, pyqs_celery as celery, sys"),
        ("import sys,celery.beat", "import sys,pyqs_celery.beat, pyqs_celery as celery"),
        ("from celery.local import Proxy", "from pyqs_celery.local_proxy import Proxy"),
        ("x = 'celery.beat:PersistentScheduler'", "x = 'pyqs_celery.beat:PersistentScheduler'"),
        ('p = patch("celery.app.task.Task.delay")', 'p = patch("pyqs_celery.app.task.Task.delay")'),
        (
            "import celery.schedules, celery.beat",
            "import pyqs_celery.schedules, pyqs_celery.beat, pyqs_celery as celery",
        ),
        ("x = 'celery.Task'", "x = 'pyqs_celery.Task'"),
        ("patch('celery.current_app')", "patch('pyqs_celery.current_app')"),
        ("monkeypatch.setattr('celery.Celery.send_task', f)", "monkeypatch.setattr('pyqs_celery.Celery.send_task', f)"),
        ("from celery.utils import uuid", "from pyqs_celery.utils import uuid"),
        ("\x0cfrom celery import uuid", "\x0cfrom pyqs_celery import uuid"),
        ("x = 1\n\x0c\nimport celery as c", "x = 1\n\x0c\nimport pyqs_celery as c"),
        ("from celery import \\\r\n  uuid", "from pyqs_celery import \\\r\n  uuid"),
        ('m = import_module("celery.states")', 'm = import_module("pyqs_celery.states")'),
        ("if True:\n\tfrom celery import uuid # id\n", "if True:\n\tfrom pyqs_celery import uuid # id\n"),
    ],
)
def test_what_becomes_of_a_line(before, after):
    assert swap(before.encode()).content.decode() == after


@pytest.mark.parametrize(
    "line",
    [
        "from .celery import app",
        "from proj.celery import app",
        "from proj import celery",
        "import django_celery_beat, celery_once",
        "queue = 'celery'",
        "getLogger('celery.task'); getLogger('celery.app.trace'); getLogger('celery.worker')",
        "# from celery import Celery",
        "name = 'celery.backend_cleanup'",
        "text = 'celery.beat is a module'",
        "f'celery.{name}'",
        "b'celery.beat:Scheduler'",
        "getLogger('celery.worker.consumer.consumer'); getLogger('celery.utils.dispatch')",
        "names = ['celery.group', 'celery.chain', 'celery.worker.consumer']",
        "def later(task: 'celery.Task') -> 'celery.Task': ...",
        "def celery(): pass\nx = celery.chain",
    ],
)
def test_what_is_left_as_it_is(line):
    result = swap(line.encode())

    assert result.content.decode() == line
    assert result.left == []


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("from celery.worker.consumer import Consumer", "celery.worker.consumer"),
        ("from celery import version_info_t, shared_task", "celery.version_info_t"),
        ("import celery.events.state", "celery.events.state"),
        ("m = importlib.import_module('celery.bin.celery')", "celery.bin.celery"),
        ("from celery import local", "celery.local"),
        ("from celery import events", "celery.events"),
        ("from celery.worker import consumer", "celery.worker.consumer"),
        ("patch('celery.worker.consumer.Consumer.start')", "celery.worker.consumer.Consumer.start"),
        ("import_module('celery.schedules.crontab')", "celery.schedules.crontab"),
    ],
)
def test_what_is_not_here_is_left_and_told(line, what):
    result = swap(f"x = 1\n{line}\n".encode())

    assert result.content == f"x = 1\n{line}\n".encode()
    [(number, sentence)] = result.left
    assert number == 2
    assert what in sentence


def test_a_module_of_ours_that_only_bears_the_name_does_not_count():
    # given that somebody has imported ours
    importlib.import_module("pyqs_celery.worker.consumer")
    importlib.import_module("pyqs_celery.local.client")

    assert swap(b"from celery.worker import consumer\nfrom celery import local\n").left


def test_a_use_of_what_is_not_here_is_told_at_its_line():
    result = swap(b"import celery\nimport celery.schedules as when\n\ncelery.SERIES(when.crontab(), when.nothing)\n")

    assert result.content.startswith(b"import pyqs_celery as celery\nimport pyqs_celery.schedules as when\n")
    assert [(line, sentence.split()[0]) for line, sentence in result.left] == [
        (4, "celery.SERIES"),
        (4, "celery.schedules.nothing"),
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"from celery import uuid\r\nx = 1\r\n",
        b"\xef\xbb\xbffrom celery import uuid\n",
        b"# -*- coding: latin-1 -*-\nfrom celery import uuid # \xe9\n",
        b"from celery import uuid",
        b"from celery import uuid  \n\n\n\t\n",
    ],
)
def test_every_other_byte_stays(content):
    assert swap(content).content == content.replace(b"celery", b"pyqs_celery")


def test_what_is_no_python():
    with pytest.raises(ValueError, match="no Python"):
        swap(b"print 'celery'")


@pytest.mark.parametrize("content", [b"# coding: nonsense\nimport celery", b"x = '\xff'\nimport celery", b"celery\x00"])
def test_what_cannot_be_decoded(content):
    with pytest.raises(ValueError, match="no Python"):
        swap(content)


def test_the_whole_project(command, project):
    # given the sample as it is
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    dry = command("migrate", ".")
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before
    assert command("migrate", "--check", ".").returncode == 1

    # when it is written
    done = command("migrate", "--write", ".")

    # then only lines with an import or a path of Celery's differ, as the diff has shown
    changed = {path for path in before if path.read_bytes() != before[path]}
    assert len(changed) == dry.stdout.count("+++ b/") == 19
    for path in changed:
        old, new = before[path].splitlines(), path.read_bytes().splitlines()
        assert len(old) == len(new)
        for one, other in zip(old, new, strict=True):
            assert one == other or (b"celery" in one and b"pyqs_celery" in other)

    # and what was left is told, with its line; a file that is no Python is the exit code's reason
    told = "\n".join(sorted(line for line in done.stderr.splitlines() if ": celery" in line))
    assert "shop/ops/worker_internals.py:1:" in told
    assert "shop/legacy/old.py:1:" in told
    assert "shop/legacy/broken.py: this is no Python" in done.stderr
    assert done.returncode == 1

    # and what is left compiles, and imports nothing of Celery's but what was told
    (project / "shop/legacy/broken.py").unlink()
    assert subprocess.run([sys.executable, "-m", "compileall", "-q", project], check=False).returncode == 0
    imports = {
        f"{path.relative_to(project)}:{number}"
        for path in project.rglob("*.py")
        for number, line in enumerate(path.read_text("latin-1").splitlines(), 1)
        if line.strip().startswith(("import celery", "from celery"))
    }
    assert imports == {
        "shop/legacy/old.py:1",
        "shop/ops/worker_internals.py:1",
        "shop/ops/worker_internals.py:2",
        "shop/reports/both.py:1",
        "shop/reports/both.py:2",
    }
    assert all(f"{place}:" in done.stderr for place in imports)

    # and a second run finds nothing more
    assert command("migrate", ".").stdout == ""


def test_the_migrated_application_loads(command, project):
    command("migrate", "--write", ".")

    shown = command("-A", "shop", "inspect", "registered")

    assert shown.stdout.split() == [
        "shop.mail.tasks.send",
        "shop.orders.tasks.charge",
        "shop.orders.tasks.remind",
        "shop.orders.tasks.settle",
        "shop.reports.tasks.nightly",
    ], shown.stderr


def test_libcst_is_asked_for_by_its_extra(project, tmp_path):
    # given a Python that has none
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['libcst'] = None\n")

    done = subprocess.run(
        [sys.executable, "-m", "pyqs_celery", "migrate", "."],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "pip install 'pyqs-celery[migrate]'" in done.stderr
