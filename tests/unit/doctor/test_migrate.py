"""The swap of imports: what changes, what must not, and what is told."""

from __future__ import annotations

import pytest

from pyqs_celery.doctor.swap import swap


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
        ("from celery import chain, shared_task", "celery.chain"),
        ("import celery.events.state", "celery.events.state"),
        ("m = importlib.import_module('celery.bin.celery')", "celery.bin.celery"),
    ],
)
def test_what_is_not_here_is_left_and_told(line, what):
    result = swap(f"x = 1\n{line}\n".encode())

    assert result.content == f"x = 1\n{line}\n".encode()
    [(number, sentence)] = result.left
    assert number == 2
    assert what in sentence


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
    assert len(changed) == dry.stdout.count("+++ b/") == 15
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
