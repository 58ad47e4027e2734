"""Results in one database that real Celery and we both write and read."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy")

from compat_tests.conftest import APPS, PEER
from pyqs_celery import Celery, exceptions
from pyqs_celery.app.request import Context
from tests.conftest import postgres  # noqa: F401 - a fixture

_spec = importlib.util.spec_from_file_location("sql_peer", APPS / "sql_peer.py")
sql_peer = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sql_peer)
# both sides know its exception by one name
sys.modules["sql_peer"] = sql_peer
KINDS = sorted(sql_peer.results(exceptions))


class Peer:
    """A process of real Celery's that answers."""

    def __init__(self, url: str, serializer: str, folder: Path) -> None:
        self.log = (folder / "peer.log").open("w+")
        self.process = subprocess.Popen(
            [PEER, "-c", "import sys, sql_peer; sql_peer.main(*sys.argv[1:])", url, serializer],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(APPS), os.environ.get("PYTHONPATH", "")])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            cwd=folder,
        )

    def ask(self, *call: Any) -> Any:
        self.process.stdin.write(json.dumps(call) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            raise AssertionError(self.log.read()[-3000:])
        return json.loads(line)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(20)
        self.log.close()


class Both:
    """Two sides of one database."""

    def __init__(self, url: str, serializer: str, folder: Path) -> None:
        self.url, self.serializer, self.folder = url, serializer, folder
        self.peer = Peer(url, serializer, folder)
        self._app: Any = None

    @property
    def app(self) -> Any:
        """Our side, from when it is first asked for."""
        if self._app is None:
            self._app = Celery("ours", broker="memory://sql", backend=self.url, set_as_current=False)
            accepted = ["json", self.serializer]
            self._app.conf.update(result_extended=True, result_serializer=self.serializer, accept_content=accepted)
        return self._app

    def we(self, *call: Any) -> Any:
        return json.loads(json.dumps(sql_peer.answer(self.app, Context, exceptions, list(call))))

    def they(self, *call: Any) -> Any:
        return self.peer.ask(*call)


@pytest.fixture
def make_both(tmp_path: Path) -> Iterator[Callable[..., Both]]:
    made: list[Both] = []

    def make(serializer: str = "json", url: str | None = None) -> Both:
        made.append(Both(url or f"db+sqlite:///{tmp_path / 'results.sqlite'}", serializer, tmp_path))
        return made[-1]

    yield make
    for both in made:
        both.peer.close()


@pytest.mark.parametrize("serializer", ["json", "pickle"])
@pytest.mark.parametrize("first", ["they", "we"])
def test_each_reads_what_the_other_wrote(make_both, serializer, first, peer_version):
    # given tables that one of both has made
    both = make_both(serializer)
    getattr(both, first)("read", "nobody")

    # when each writes one of everything
    for kind in KINDS:
        both.we("store", f"ours-{kind}", kind)
        both.they("store", f"theirs-{kind}", kind)

    # then both find the same in what either wrote
    for kind in KINDS:
        for writer in ("ours", "theirs"):
            task_id = f"{writer}-{kind}"
            ours, theirs = both.we("read", task_id), both.they("read", task_id)
            assert comparable(ours) == comparable(theirs), (kind, writer)
            state, value = sql_peer.results(exceptions)[kind]
            assert ours["state"] == state
            if not isinstance(value, BaseException):
                assert ours["result"] == sql_peer.shown(value)
            assert ours["extended"] == ["proj.t", [1], {"x": 2}, "w", 1, "q"]


def comparable(document: dict[str, Any]) -> dict[str, Any]:
    """Without what only some versions keep, and where an exception's class was found."""
    found = dict(document)
    del found["children"]
    if isinstance(found["result"], list) and len(found["result"]) == 3 and isinstance(found["result"][2], list):
        found["result"] = [found["result"][0], found["result"][2]]
    return found


def test_children_are_kept_as_the_version_can(make_both, peer_version):
    both = make_both()
    both.they("read", "nobody")

    both.they("store", "theirs", "value")
    both.we("store", "ours", "value")

    keeps = peer_version >= (5, 7)
    assert both.we("read", "ours")["children"] == (["ours-kid"] if keeps else [])
    assert both.we("read", "theirs")["children"] == both.they("read", "theirs")["children"]
    assert both.they("read", "ours")["children"] == (["ours-kid"] if keeps else [])


def test_groups_are_restored_by_either(make_both):
    both = make_both()

    both.we("save", "ours", ["a", "b"])
    both.they("save", "theirs", ["a", "b"])

    for key in ("ours", "theirs"):
        deep = [[f"{key}-deep", None], None]
        wanted = [[key, None], [[["a", None], None], [["b", None], None], [[f"{key}-inner", None], [deep]]]]
        assert (both.we("restore", key), both.they("restore", key)) == (wanted, wanted)


def test_a_success_of_theirs_stays(make_both):
    both = make_both()
    both.they("store", "a", "value")

    both.we("store", "a", "error")

    assert both.they("read", "a")["state"] == "SUCCESS"


def test_a_success_of_ours_stays_from_5_7_on(make_both, peer_version):
    both = make_both()
    both.we("store", "a", "value")

    both.they("store", "a", "error")

    assert both.we("read", "a")["state"] == ("SUCCESS" if peer_version >= (5, 7) else "FAILURE")


def test_a_task_that_both_write_in_turns(make_both):
    both = make_both()
    seen = []

    for who, kind in (("they", "started"), ("we", "progress"), ("they", "retry"), ("we", "error"), ("they", "value")):
        getattr(both, who)("store", "a", kind)
        ours, theirs = both.we("read", "a"), both.they("read", "a")
        assert comparable(ours) == comparable(theirs)
        seen.append(ours["state"])

    assert seen == ["STARTED", "PROGRESS", "RETRY", "FAILURE", "SUCCESS"]


@pytest.mark.skipif(sys.executable == PEER, reason="the peer has no driver of its own")
def test_postgresql_too(make_both, postgres):  # noqa: F811 - the fixture imported above
    url = f"db+{postgres.create('both')}"
    if subprocess.run([PEER, "-c", "import psycopg"], capture_output=True, check=False).returncode:
        pytest.skip("the peer has no psycopg")
    both = make_both(url=url)
    both.they("read", "nobody")

    for kind in KINDS:
        both.we("store", f"ours-{kind}", kind)
        both.they("store", f"theirs-{kind}", kind)

    for kind in KINDS:
        for task_id in (f"ours-{kind}", f"theirs-{kind}"):
            assert comparable(both.we("read", task_id)) == comparable(both.they("read", task_id))
