"""Results in a directory."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pyqs_celery import Celery, states
from pyqs_celery.exceptions import BackendError, BackendStoreError, ImproperlyConfigured
from tests.stores.contract import StoreContract, new_id


class TestFilesystem(StoreContract):
    counts_chords = False

    @pytest.fixture
    def settings(self, tmp_path: Path) -> dict[str, Any]:
        return {"result_backend": f"file://{tmp_path}"}


def make_app(folder: Path, **settings: Any) -> Any:
    return Celery("proj", broker="memory://x", backend=f"file://{folder}", set_as_current=False, **settings)


def test_a_document_is_a_file_named_as_celery_names_it(tmp_path):
    app = make_app(tmp_path)

    app.backend.store_result("t-1", 6, states.SUCCESS)
    app.GroupResult("g-1", [app.AsyncResult("t-1")]).save()

    assert sorted(file.name for file in tmp_path.iterdir()) == ["celery-task-meta-t-1", "celery-taskset-meta-g-1"]
    assert json.loads((tmp_path / "celery-task-meta-t-1").read_text())["result"] == 6


def test_others_may_read_it_as_far_as_the_umask_lets_them(tmp_path):
    app = make_app(tmp_path)
    before = os.umask(0o027)
    try:
        app.backend.store_result("t", 1, states.SUCCESS)
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "celery-task-meta-t").stat().st_mode) == 0o640


def test_localhost_may_be_named(tmp_path):
    app = Celery("proj", backend=f"file://localhost{tmp_path}", set_as_current=False)

    app.backend.store_result("t", 1, states.SUCCESS)

    assert make_app(tmp_path).AsyncResult("t").get(timeout=5) == 1


@pytest.mark.parametrize("url", ["file://", "file://server/share", "file:relative"])
def test_urls_that_are_no_directory(url):
    app = Celery("proj", backend=url, set_as_current=False)

    with pytest.raises(ImproperlyConfigured):
        _ = app.backend


def test_a_directory_that_cannot_be_used_is_told_at_start(tmp_path):
    file = tmp_path / "file"
    file.touch()

    with pytest.raises(ImproperlyConfigured, match="nowhere: No such file or directory; it must be a directory"):
        _ = make_app(tmp_path / "nowhere").backend
    with pytest.raises(ImproperlyConfigured, match="file: Not a directory"):
        _ = make_app(file).backend


@pytest.mark.parametrize("task_id", ["../../etc/passwd", "a/b", "nul\x00", "x" * 250])
def test_ids_that_are_no_names_are_refused(tmp_path, task_id):
    backend = make_app(tmp_path).backend

    with pytest.raises(BackendError, match="cannot be a file"):
        backend.store_result(task_id, 1, states.SUCCESS)
    with pytest.raises(BackendError, match="cannot be a file"):
        backend.get_task_meta(task_id)


def test_a_reader_never_sees_half_a_document(tmp_path):
    backend = make_app(tmp_path).backend
    backend.set(b"celery-task-meta-t", b"x" * 500_000)
    over = threading.Event()

    def write() -> None:
        for _ in range(100):
            backend.set(b"celery-task-meta-t", b"x" * 500_000)
        over.set()

    writer = threading.Thread(target=write)
    writer.start()
    lengths = set()
    while not over.is_set():
        lengths.add(len(backend.get(b"celery-task-meta-t")))
    writer.join()

    assert lengths == {500_000}


def test_a_directory_that_is_gone_is_an_error_in_bounded_time(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    backend, now = make_app(folder).backend, [0.0]
    backend.clock = lambda: now[0]
    backend.sleep = lambda seconds: now.__setitem__(0, now[0] + seconds)
    folder.rmdir()

    with pytest.raises(BackendStoreError, match="t cannot be stored: FileNotFoundError"):
        backend.store_result("t", 1, states.SUCCESS)

    assert 0 < now[0] <= 10


def test_cleanup_removes_what_is_old_and_ours(tmp_path):
    app = make_app(tmp_path, result_expires=100)
    backend = app.backend
    for task_id in ("old", "new"):
        backend.store_result(task_id, 1, states.SUCCESS)
    app.GroupResult("old", []).save()
    (tmp_path / "of somebody else").touch()
    (tmp_path / ".pyqs-celery-of-a-killed-writer").touch()
    long_ago = time.time() - 101
    for file in tmp_path.iterdir():
        if file.name != "celery-task-meta-new":
            os.utime(file, (long_ago, long_ago))

    backend.cleanup()

    assert sorted(file.name for file in tmp_path.iterdir()) == ["celery-task-meta-new", "of somebody else"]


def test_cleanup_removes_nothing_where_results_are_kept_for_ever(tmp_path):
    app = make_app(tmp_path)
    app.conf.result_expires = None
    app.backend.store_result("old", 1, states.SUCCESS)
    os.utime(tmp_path / "celery-task-meta-old", (0, 0))

    app.backend.cleanup()

    assert app.AsyncResult("old").state == states.SUCCESS


def test_a_claim_is_one_workers_until_its_time_is_over(tmp_path):
    group_id = new_id()
    backend = make_app(tmp_path).backend

    answers = [backend.claim_chord(group_id, token, 60) for token in ("first", "second")]
    claim = tmp_path / f"chord-unlock-{group_id}.c"
    os.utime(claim, (time.time() - 1, time.time() - 1))
    answers.append(backend.claim_chord(group_id, "third", 60))
    backend.mark_chord_done(group_id)
    answers.append(backend.claim_chord(group_id, "fourth", 60))

    assert answers == ["won", "held", "won", "done"]


def test_of_many_threads_one_adds(tmp_path):
    backend = make_app(tmp_path).backend
    begin = threading.Barrier(8)
    won = []

    def add() -> None:
        begin.wait()
        won.append(backend.add(b"chord-unlock-x", "1", 60))

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(won) == [False] * 7 + [True]
