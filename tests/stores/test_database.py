"""Results in SQLite and PostgreSQL keep the contract; and what is a database's own."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from datetime import timedelta
from typing import Any

import pytest

pytest.importorskip("sqlalchemy")

import sqlalchemy as sa

from pyqs_celery import Celery, states
from pyqs_celery.app.request import Context
from pyqs_celery.backends.database import DatabaseBackend
from pyqs_celery.backends.database.tables import utcnow
from pyqs_celery.exceptions import BackendGetMetaError, BackendStoreError, ImproperlyConfigured, ResultTooLarge
from tests.stores.contract import Chord, StoreContract, new_id
from tests.support.embedded import ROOT
from tests.support.servers import free_port


class DatabaseContract(StoreContract):
    keeps_relations = False
    compresses = False

    def spoil(self, backend, task_id, garbage):
        backend._tables.prepare(backend._database)
        row = {"task_id": task_id, "status": "FAILURE", "result": garbage, "date_done": utcnow()}
        with backend._database.writing() as connection:
            connection.execute(backend._tables.task.insert().values(row))

    def seconds_left(self, backend, task_id):
        done = rows(backend, task_id=task_id)[0].date_done
        return (done + timedelta(seconds=backend.expires) - utcnow()).total_seconds() if backend.expires else None

    def test_a_document_has_its_date(self, app, backend):
        before = utcnow()

        backend.store_result("a", 1, states.SUCCESS)

        # without a zone, as Celery's applications have it from these tables
        assert before <= app.AsyncResult("a").date_done <= utcnow()


class TestSqlite(DatabaseContract):
    @pytest.fixture
    def settings(self, sqlite) -> dict[str, Any]:
        return {"result_backend": sqlite, "database_chord_counter": True}


class TestPostgres(DatabaseContract):
    @pytest.fixture
    def settings(self, postgresql) -> dict[str, Any]:
        return {"result_backend": postgresql, "database_chord_counter": True}


@pytest.fixture
def sqlite(tmp_path):
    return f"db+sqlite:///{tmp_path / 'results.sqlite'}"


@pytest.fixture
def postgresql(postgres):
    return f"db+{postgres.create(uuid.uuid4().hex)}"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request):
    """An empty database, one of each kind."""
    return request.getfixturevalue(request.param)


def make_app(url: str, **settings: Any) -> Any:
    app = Celery("proj", broker=f"memory://{uuid.uuid4().hex}", backend=url, set_as_current=False)
    app.conf.update(settings)
    return app


def rows(backend: Any, name: str = "task", **where: Any) -> list[Any]:
    table = getattr(backend._tables, name)
    with backend._database.reading() as connection:
        found = sa.select(table).where(*(table.c[key] == value for key, value in where.items()))
        return list(connection.execute(found))


def execute(url: str, *statements: str) -> None:
    engine = sa.create_engine(url.removeprefix("db+"))
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


# -- what is in the tables -----------------------------------------------------------------------------


TASK_COLUMNS = {
    "id": "INTEGER",
    "task_id": "VARCHAR(155)",
    "status": "VARCHAR(50)",
    "result": "BLOB",
    "date_done": "DATETIME",
    "traceback": "TEXT",
    "children": "BLOB",
    "name": "VARCHAR(155)",
    "args": "BLOB",
    "kwargs": "BLOB",
    "worker": "VARCHAR(155)",
    "retries": "INTEGER",
    "queue": "VARCHAR(155)",
    "stamps": "BLOB",
}
GROUP_COLUMNS = {"id": "INTEGER", "taskset_id": "VARCHAR(155)", "result": "BLOB", "date_done": "DATETIME"}


def test_the_tables_are_those_of_celery_5_7(sqlite):
    make_app(sqlite).backend  # noqa: B018 - it makes the tables

    inspector = sa.inspect(sa.create_engine(sqlite.removeprefix("db+")))
    found = {
        table: {column["name"]: str(column["type"]) for column in inspector.get_columns(table)}
        for table in inspector.get_table_names()
        if not table.startswith("sqlite_")
    }
    assert found == {"celery_taskmeta": TASK_COLUMNS, "celery_tasksetmeta": GROUP_COLUMNS}
    assert [index["name"] for index in inspector.get_indexes("celery_taskmeta")] == ["ix_celery_taskmeta_date_done"]
    assert inspector.get_unique_constraints("celery_taskmeta")[0]["column_names"] == ["task_id"]


def test_ids_come_from_celerys_sequences(postgresql):
    backend = make_app(postgresql).backend

    backend.store_result("a", 1, states.SUCCESS)
    backend.store_result("b", 1, states.SUCCESS)

    execute(postgresql, "SELECT nextval('taskset_id_sequence')")
    assert [row.id for row in rows(backend)] == [1, 2]
    assert sa.inspect(backend._database.engine()).get_sequence_names() == ["task_id_sequence", "taskset_id_sequence"]


def test_a_value_is_pickled_as_all_versions_of_celery_read_it(url):
    backend = make_app(url).backend

    backend.store_result("ok", {"a": (1, 2)}, states.SUCCESS)
    backend.store_result("bad", KeyError("k"), states.FAILURE)

    ok, bad = rows(backend)
    assert pickle.loads(ok.result) == {"a": [1, 2]}
    assert pickle.loads(bad.result) == {"exc_type": "KeyError", "exc_message": ["k"], "exc_module": "builtins"}


def test_what_celery_5_7_serialised_is_read(url):
    app = make_app(url)
    backend = app.backend
    row = {"status": "SUCCESS", "result": b'{"a": [1]}', "children": b'[[["kid", null], null]]'}
    failed = {
        "status": "FAILURE",
        "result": b'{"exc_type": "KeyError", "exc_message": ["k"], "exc_module": "builtins"}',
    }
    with backend._database.writing() as connection:
        connection.execute(backend._tables.task.insert().values(task_id="ok", **row))
        connection.execute(backend._tables.task.insert().values(task_id="bad", **failed))

    assert app.AsyncResult("ok").get(timeout=5) == {"a": [1]}
    assert app.AsyncResult("ok").children == [app.AsyncResult("kid")]
    with pytest.raises(KeyError):
        app.AsyncResult("bad").get(timeout=5)


def test_an_empty_dictionary_of_msgpack_is_no_pickle(url):
    app = make_app(url, result_serializer="msgpack", accept_content=["msgpack"])
    with app.backend._database.writing() as connection:
        row = {"task_id": "a", "status": "SUCCESS", "result": b"\x80"}
        connection.execute(app.backend._tables.task.insert().values(row))

    assert app.AsyncResult("a").get(timeout=5) == {}


OLD_TABLES = [
    """
    CREATE TABLE celery_taskmeta (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, task_id VARCHAR(155), status VARCHAR(50), result BLOB,
        date_done DATETIME, traceback TEXT, UNIQUE (task_id))
    """,
    """
    CREATE TABLE celery_tasksetmeta (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, taskset_id VARCHAR(155), result BLOB, date_done DATETIME,
        UNIQUE (taskset_id))
    """,
]


def test_tables_of_an_old_celery_are_used_as_they_are(sqlite):
    # given a table with nothing but what the oldest versions had
    execute(sqlite, *OLD_TABLES)
    app = make_app(sqlite, result_extended=True)
    request = Context(id="a", task="proj.add", args=[1], kwargs={}, hostname="w")
    request.children.append(app.AsyncResult("kid"))

    # when a task ends
    app.backend.mark_as_done("a", 3, request=request)

    # then what there is room for is kept
    result = app.AsyncResult("a")
    assert (result.get(timeout=5), result.children, result.name) == (3, None, None)


def test_stamps_are_kept_with_extended_results(url):
    app = make_app(url, result_extended=True)
    request = Context(id="a", task="proj.add", args=[], kwargs={}, stamped_headers=["who"], stamps={"who": ["me"]})

    app.backend.mark_as_done("a", 3, request=request)

    meta = app.backend.get_task_meta("a")
    assert (meta["stamped_headers"], meta["who"], meta["name"]) == (["who"], ["me"], "proj.add")


def test_text_that_a_database_would_refuse_loses_no_result(url):
    app = make_app(url, result_extended=True)
    request = Context(id="a", task="t" * 300, args=[], kwargs={}, hostname="h\x00")

    app.backend.mark_as_failure("a", ValueError("nul \x00"), traceback="a \x00 b", request=request)

    result = app.AsyncResult("a")
    assert (result.state, result.result.args, result.traceback) == ("FAILURE", ("nul \x00",), "a \\x00 b")
    assert (result.name, result.worker) == ("t" * 155, "h\\x00")


def test_an_id_that_does_not_fit_is_said_so_at_once(postgresql):
    backend = make_app(postgresql).backend

    with pytest.raises(ResultTooLarge, match="does not take"):
        backend.store_result("x" * 156, 1, states.SUCCESS)


# -- pickles of others ---------------------------------------------------------------------------------


class Evil:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


class Custom:
    def __eq__(self, other):
        return type(other) is Custom

    __hash__ = None


def put(app: Any, task_id: str, data: bytes, status: str = states.SUCCESS) -> None:
    with app.backend._database.writing() as connection:
        row = {"task_id": task_id, "status": status, "result": data}
        connection.execute(app.backend._tables.task.insert().values(row))


@pytest.mark.parametrize("status", [states.SUCCESS, states.FAILURE])
def test_a_pickle_that_calls_something_is_refused(sqlite, tmp_path, status):
    app = make_app(sqlite)
    put(app, "a", pickle.dumps(Evil(f"touch {tmp_path / 'owned'}")), status)
    group = pickle.dumps(Evil(f"touch {tmp_path / 'owned'}"))
    with app.backend._database.writing() as connection:
        connection.execute(app.backend._tables.group.insert().values(taskset_id="g", result=group))

    with pytest.raises(BackendGetMetaError, match="system"):
        _ = app.AsyncResult("a").state
    with pytest.raises(BackendGetMetaError, match="system"):
        app.GroupResult.restore("g")

    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("reached", ["os.system", "sys.modules", "importlib.import_module"])
def test_what_a_module_of_ours_imports_is_not_reached_through_it(sqlite, reached):
    app = make_app(sqlite)
    module, _, name = reached.rpartition(".")
    for index, ours in enumerate(("celery.exceptions", "celery.result", "celery.backends.base", "celery.app.base")):
        data = b"".join([b"\x80\x04", *(b"\x8c" + bytes([len(w)]) + w.encode() for w in (ours, f"{module}.{name}"))])
        put(app, f"task-{index}", data + b"\x93)R.", states.FAILURE)

    for index in range(4):
        try:
            found = app.AsyncResult(f"task-{index}").result
        except BackendGetMetaError:
            continue
        # a made-up exception of that name, or nothing
        assert found is None or type(found).__mro__[1] is Exception


def test_a_class_of_the_application_needs_pickle_to_be_accepted(sqlite):
    closed, opened = make_app(sqlite), make_app(sqlite, result_accept_content=["json", "pickle"])
    named = make_app(sqlite, pickle_allowed_classes=[f"{Custom.__module__}.*"])
    put(closed, "a", pickle.dumps(Custom()))

    with pytest.raises(BackendGetMetaError, match="Custom"):
        _ = closed.AsyncResult("a").result
    assert opened.AsyncResult("a").get(timeout=5) == Custom()
    assert named.AsyncResult("a").get(timeout=5) == Custom()


def test_pickled_exceptions_are_rebuilt_where_their_class_is_loaded(sqlite):
    app = make_app(sqlite)
    put(app, "known", pickle.dumps(ZeroDivisionError("x")), states.FAILURE)
    put(
        app,
        "celerys",
        b"\x80\x04\x8c\x11celery.exceptions\x8c\x10TaskRevokedError\x93\x8c\x03why\x85R.",
        states.REVOKED,
    )
    put(app, "elsewhere", b"\x80\x04\x8c\x09their.mod\x8c\x05Weird\x93\x8c\x01y\x85R.", states.FAILURE)

    found = [app.AsyncResult(task_id).result for task_id in ("known", "celerys", "elsewhere")]

    assert [(type(error).__name__, error.args) for error in found] == [
        ("ZeroDivisionError", ("x",)),
        ("TaskRevokedError", ("why",)),
        ("Weird", ("y",)),
    ]


@pytest.mark.parametrize("garbage", [b"\x80\x05 no pickle", b"\x80\x04.", b"\x80\x05K", b"\x80\x04N0."])
def test_a_broken_pickle_is_an_error_with_the_tasks_id(url, garbage):
    app = make_app(url)
    put(app, "the-task", garbage)

    with pytest.raises(BackendGetMetaError, match="the-task"):
        _ = app.AsyncResult("the-task").state
    with pytest.raises(BackendGetMetaError, match="the-task"):
        app.GroupResult("g", [app.AsyncResult("the-task")]).join_native(timeout=1)


# -- several at once -----------------------------------------------------------------------------------


def start(what: str, url: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.stores.sql_process", what, url, *arguments]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def test_four_processes_write_at_once(url):
    # given four processes that make the tables at the same time, and write as fast as they can
    writers = [start("write", url, f"w{index}", "50") for index in range(4)]

    # when they have ended
    ends = [writer.communicate(timeout=100) for writer in writers]

    # then nothing had to be tried again, and all is there
    assert [(out.strip(), err) for out, err in ends] == [('"done"', "")] * 4
    found = rows(make_app(url).backend)
    assert (len(found), {row.status for row in found}) == (200, {states.SUCCESS})


def test_a_success_stays_whoever_else_writes(url):
    app = make_app(url)
    ids = [new_id() for _ in range(20)]
    gate = threading.Barrier(4)

    def write(state: str, value: Any) -> None:
        backend = make_app(url).backend
        for task_id in ids:
            gate.wait(30)
            backend.store_result(task_id, value, state)

    writers = [threading.Thread(target=write, args=each) for each in ((states.SUCCESS, 1), (states.STARTED, None))]
    writers += [threading.Thread(target=write, args=(states.FAILURE, ValueError("x"))) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert {app.AsyncResult(task_id).state for task_id in ids} == {states.SUCCESS}
    assert len(rows(app.backend)) == 20


def test_threads_share_one_back_end(url):
    app = make_app(url)
    found = []

    def work(number: int) -> None:
        for index in range(20):
            app.backend.store_result(f"{number}-{index}", index, states.SUCCESS)
        found.append(app.backend)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({id(backend) for backend in found}) == 1
    assert len(rows(app.backend)) == 160


def test_a_fork_shares_no_connection(postgresql):
    # given a connection that is open
    app = make_app(postgresql)
    backend = app.backend
    backend.store_result("parent", 1, states.SUCCESS)
    session = "SELECT pg_backend_pid()"
    with backend._database.reading() as connection:
        before = connection.exec_driver_sql(session).scalar_one()

    # when a child uses the back end, by the app and by the object it inherited
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with backend._database.reading() as connection:
            pids = [connection.exec_driver_sql(session).scalar_one()]
        app.backend.store_result("child", 2, states.SUCCESS)
        with app.backend._database.reading() as connection:
            pids.append(connection.exec_driver_sql(session).scalar_one())
        os.write(write, json.dumps(pids).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        in_child = json.loads(pipe.read())
    assert os.waitpid(child, 0)[1] == 0

    # then the parent's session is its own, and lives
    with backend._database.reading() as connection:
        assert connection.exec_driver_sql(session).scalar_one() == before
    assert before not in in_child
    assert app.AsyncResult("child").get(timeout=5) == 2


# -- a database that is away ---------------------------------------------------------------------------


@pytest.mark.slow
def test_a_server_that_is_not_there_is_told_in_time():
    app = make_app(f"db+postgresql+psycopg://nobody:secret@127.0.0.1:{free_port()}/none")
    began = time.monotonic()

    with pytest.raises(BackendStoreError, match="cannot be stored") as caught:
        app.backend.store_result("the-task", 1, states.SUCCESS)

    assert time.monotonic() - began < 30
    assert caught.value.task_id == "the-task"


def test_a_result_of_a_server_that_is_not_there_cannot_be_read():
    url = f"db+postgresql+psycopg://nobody:secret@127.0.0.1:{free_port()}/none"
    app = make_app(url, result_backend_always_retry=True, result_backend_max_retries=2, database_chord_counter=True)

    with pytest.raises(BackendGetMetaError, match="the-task"):
        _ = app.AsyncResult("the-task").state
    with pytest.raises(BackendStoreError, match="is stuck"):
        app.backend.on_chord_part_return(Chord(app, 2).request(0), states.SUCCESS, 0)


def test_broken_connections_are_made_again(postgresql, caplog):
    backend = make_app(postgresql, database_engine_options={"pool_pre_ping": False}).backend
    backend.store_result("a", 1, states.SUCCESS)

    execute(postgresql, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    backend.store_result("b", 2, states.SUCCESS)

    assert backend.get_task_meta("b")["result"] == 2
    assert "trying again" in caplog.text


def test_stale_connections_are_noticed_before_they_are_used(postgresql, caplog):
    backend = make_app(postgresql).backend
    backend.store_result("a", 1, states.SUCCESS)

    execute(postgresql, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")

    assert backend.get_task_meta("a")["result"] == 1
    assert "trying again" not in caplog.text


def test_tables_that_were_dropped_are_made_again(url):
    backend = make_app(url).backend
    execute(url, "DROP TABLE celery_taskmeta")

    backend.store_result("a", 1, states.SUCCESS)

    assert backend.get_task_meta("a")["result"] == 1


# -- settings ------------------------------------------------------------------------------------------


def test_without_a_url_it_says_which_setting(sqlite):
    with pytest.raises(ImproperlyConfigured, match="database_url"):
        _ = make_app("database").backend
    assert make_app("database", database_url=sqlite.removeprefix("db+")).backend.url == sqlite.removeprefix("db+")


@pytest.mark.parametrize("bad", ["db+nosuch://x", "db+postgresql+nosuch://x", "db+:::", "db+postgres://u@h/d"])
def test_a_url_that_cannot_be_used_is_a_mistake_in_the_settings(bad):
    with pytest.raises(ImproperlyConfigured):
        _ = make_app(bad).backend


def test_without_sqlalchemy_it_says_what_to_install():
    code = (
        "import sys; sys.modules['sqlalchemy'] = None\n"
        "from pyqs_celery import Celery\n"
        "try: Celery(backend='db+sqlite:///x').backend\n"
        "except Exception as exc: print(type(exc).__name__, exc)"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.startswith("ImproperlyConfigured"), done.stdout
    assert "pip install 'pyqs-celery[database]'" in done.stdout


def test_the_password_is_not_shown():
    backend = make_app(
        "db+postgresql+psycopg://me:secret@127.0.0.1:1/results", database_create_tables_at_setup=False
    ).backend

    assert backend.as_uri() == "postgresql+psycopg://me:**@127.0.0.1:1/results"
    assert "secret" in backend.as_uri(include_password=True)


def test_tables_may_have_other_names_and_schemas(postgresql):
    execute(postgresql, "CREATE SCHEMA elsewhere")
    names = {"task": "my_tasks", "group": "my_groups", "chord": "my_chords", "part": "my_parts"}
    schemas = {"task": "elsewhere", "group": "elsewhere"}
    settings = {"database_table_names": names, "database_table_schemas": schemas, "database_chord_counter": True}
    app = make_app(postgresql, **settings)

    app.backend.store_result("a", 1, states.SUCCESS)
    app.GroupResult("g", [app.AsyncResult("a")]).save()
    Chord(app, 2).begin()

    inspector = sa.inspect(app.backend._database.engine())
    assert sorted(inspector.get_table_names("elsewhere")) == ["my_chords", "my_groups", "my_parts", "my_tasks"]
    assert inspector.get_table_names() == []
    assert make_app(postgresql, **settings).AsyncResult("a").get(timeout=5) == 1


def test_tables_are_made_at_first_use_if_so_wanted(sqlite, tmp_path):
    app = make_app(sqlite, database_create_tables_at_setup=False)
    _ = app.backend
    before = (tmp_path / "results.sqlite").exists()

    app.backend.store_result("a", 1, states.SUCCESS)

    assert not before
    assert app.AsyncResult("a").get(timeout=5) == 1


ENGINES: list[Any] = []


def test_the_callback_is_called_with_the_engine(sqlite):
    ENGINES.clear()
    options = {"echo": False, "pool_recycle": 7}
    app = make_app(sqlite, database_engine_callback=ENGINES.append, database_engine_options=options)

    app.backend.store_result("a", 1, states.SUCCESS)

    assert [engine.pool._recycle for engine in ENGINES] == [7]
    with pytest.raises(ImproperlyConfigured, match="database_engine_callback"):
        _ = make_app(sqlite, database_engine_callback="os.sep").backend


def test_short_lived_sessions_keep_no_connection(postgresql):
    options = {"pool_size": 3, "pool_recycle": 5}
    backend = make_app(postgresql, database_short_lived_sessions=True, database_engine_options=options).backend
    backend.store_result("a", 1, states.SUCCESS)
    engine = sa.create_engine(postgresql.removeprefix("db+"))

    with engine.connect() as connection:
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        assert connection.exec_driver_sql(others).scalar_one() == 0
    engine.dispose()


def test_a_database_in_memory_is_one_for_all_threads():
    app = make_app("db+sqlite://", database_chord_counter=True)
    writer = threading.Thread(target=lambda: app.backend.store_result("a", 1, states.SUCCESS))
    writer.start()
    writer.join()

    assert app.AsyncResult("a").get(timeout=5) == 1


def test_the_constructor_takes_what_celerys_takes(sqlite):
    app = make_app("disabled")

    backend = DatabaseBackend(
        dburi=sqlite.removeprefix("db+"), engine_options={"pool_recycle": 9}, expires=timedelta(hours=1), app=app
    )

    backend.store_result("a", 1, states.SUCCESS)
    assert (backend.expires, backend._database.engine().pool._recycle) == (3600, 9)


def test_cleanup_deletes_what_has_expired(url):
    app = make_app(url, result_expires=100, database_chord_counter=True)
    backend = app.backend
    backend.store_result("old", 1, states.SUCCESS)
    backend.store_result("new", 1, states.SUCCESS)
    app.GroupResult("old", [app.AsyncResult("old")]).save()
    chords = [Chord(app, 2).begin(), Chord(app, 2).begin()]
    for chord in chords:
        chord.report(0)
    past = utcnow() - timedelta(seconds=101)
    tables = backend._tables
    with backend._database.writing() as connection:
        connection.execute(tables.task.update().where(tables.task.c.task_id == "old").values(date_done=past))
        connection.execute(tables.group.update().values(date_done=past))
        connection.execute(
            tables.chord.update().where(tables.chord.c.group_id == chords[0].group_id).values(changed=past)
        )

    backend.cleanup()

    assert {row.task_id for row in rows(backend)} == {"new", chords[0].members[0], chords[1].members[0]}
    assert rows(backend, "group") == []
    assert [row.group_id for row in (*rows(backend, "chord"), *rows(backend, "part"))] == [chords[1].group_id] * 2


def test_nothing_is_cleaned_up_if_results_are_kept_for_ever(sqlite):
    app = make_app(sqlite)
    app.conf.result_expires = None
    app.backend.store_result("old", 1, states.SUCCESS)
    with app.backend._database.writing() as connection:
        connection.execute(app.backend._tables.task.update().values(date_done=utcnow() - timedelta(days=999)))

    app.backend.cleanup()

    assert len(rows(app.backend)) == 1


def test_many_results_are_read_at_once(url):
    app = make_app(url)
    statements = []
    sa.event.listen(
        app.backend._database.engine(), "before_cursor_execute", lambda *args: statements.append(args[2].split()[0])
    )
    ids = [new_id() for _ in range(700)]
    for task_id in ids:
        app.backend.store_result(task_id, 1, states.SUCCESS)
    statements.clear()

    assert app.GroupResult("g", [app.AsyncResult(task_id) for task_id in ids]).get(timeout=30) == [1] * 700

    assert statements.count("SELECT") == 2


# -- chords --------------------------------------------------------------------------------------------


def test_a_chord_is_looked_after_by_celerys_task_unless_told_otherwise(sqlite):
    sent = []

    class Noting(Celery):
        def send_task(self, name: Any, *args: Any, **kwargs: Any) -> Any:
            sent.append(getattr(name, "name", name))
            return super().send_task(name, *args, **kwargs)

    app = Noting("proj", broker=f"memory://{uuid.uuid4().hex}", backend=sqlite, set_as_current=False)
    chord = Chord(app, 2).begin()
    chord.report(0)
    chord.report(1)

    assert sent == ["celery.chord_unlock"]
    assert "pyqs_celery_chord" not in sa.inspect(app.backend._database.engine()).get_table_names()


def test_members_of_a_chord_that_celery_sent_are_not_counted(url):
    app = make_app(url, database_chord_counter=True)
    chord = Chord(app, 2)

    for index in (0, 1):
        chord.report(index)

    assert chord.bodies() == []
    assert rows(app.backend, "chord") == []


def test_the_task_that_looks_after_celerys_chord_completes_it_once(url):
    backend = make_app(url, database_chord_counter=True).backend

    answers = [backend.claim_chord("g", token, 60) for token in ("one", "two")]
    backend.drop_chord_claim("g")
    answers.append(backend.claim_chord("g", "three", 60))
    backend.mark_chord_done("g")
    answers.append(backend.claim_chord("g", "four", 60))

    assert answers == ["won", "held", "won", "done"]


def test_a_claim_that_was_lost_sends_nothing(url):
    # given a worker that collects the values, and another that takes the chord over from it
    app = make_app(url, database_chord_counter=True)
    chord = Chord(app, 2).begin()
    chord.report(0)
    backend = app.backend
    joined = backend._look

    def slowly(*args: Any) -> Any:
        backend.drop_chord_claim(chord.group_id)
        assert backend.claim_chord(chord.group_id, "another", 60) == "won"
        return joined(*args)

    backend._look = slowly

    # when it is done with that
    with pytest.raises(BackendStoreError, match=chord.group_id):
        chord.report(1)

    # then the body is the other's
    assert chord.bodies() == []


class OnSqs:
    """A chord whose members are reported by processes, and whose body goes to the embedded SQS."""

    def __init__(self, url: str, sqs: Any, size: int) -> None:
        self.url, self.sqs = url, sqs
        self.app = make_app(url, database_chord_counter=True)
        self.chord = Chord(self.app, size).begin()
        self.lines = [
            json.dumps([self.chord.group_id, member, index, self.chord.body])
            for index, member in enumerate(self.chord.members)
        ]
        sqs.create("bodies")

    def report(self, indexes: Any, kind: str = "lives", kill_after: int | None = None) -> int:
        """Have a process report members; its exit code."""
        with tempfile.TemporaryFile("w+") as lines:
            lines.write("".join(f"{self.lines[index]}\n" for index in indexes))
            lines.seek(0)
            environment = {**os.environ, **self.sqs.environment}
            with start("report", self.url, kind, stdin=lines, env=environment) as process:
                for number, _ in enumerate(process.stdout, 1):
                    if number == kill_after:
                        process.kill()
                error = process.stderr.read()
        assert process.returncode in (0, -signal.SIGKILL), error
        return process.returncode

    def bodies(self) -> list[Any]:
        from pyqs_celery import wire

        return [wire.decode({"Body": body, "MessageId": "x"}).args for body in self.sqs.bodies("bodies")]

    def end_claims(self) -> None:
        backend = self.app.backend
        with backend._database.writing() as connection:
            connection.execute(backend._tables.chord.update().values(claimed_until_ms=0))


def test_500_members_reported_twice_by_processes_that_are_killed_call_the_body_once(url, sqs):
    chord = OnSqs(url, sqs, 500)
    everything = range(500)
    shares = [everything[0:300], everything[200:500], [*everything[450:], *everything[:150]], everything[140:460]]

    def deliver(share: Any) -> None:
        # killed twice on its way, and what it had is delivered again
        for kill_after in (20, 60, None):
            chord.report(share, kill_after=kill_after)

    workers = [threading.Thread(target=deliver, args=(share,)) for share in shares]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert chord.bodies() == [[list(everything)]]
    assert rows(chord.app.backend, "part") == []


def test_a_worker_that_dies_before_it_sends_the_body_is_replaced(url, sqs):
    chord = OnSqs(url, sqs, 3)

    code = chord.report([0, 1, 2], kind="dies")
    before = chord.bodies()
    chord.end_claims()
    chord.report([2])

    assert (code, before) == (-signal.SIGKILL, [])
    assert chord.bodies() == [[[0, 1, 2]]]


def test_a_worker_that_died_after_the_body_was_sent_is_not_repeated(url, sqs):
    # given a body that ran already, though its sender did not live to say so
    chord = OnSqs(url, sqs, 3)
    chord.report([0, 1, 2], kind="dies")
    chord.app.backend.store_result(chord.chord.body_id, 3, states.SUCCESS)
    chord.end_claims()

    # when a member is delivered again
    chord.report([2])

    # then nothing is sent, and nobody waits for it
    assert chord.bodies() == []
    assert [row.is_done for row in rows(chord.app.backend, "chord")] == [True]


CALL = """
import sys
from pyqs_celery import chain, chord, group
from tests.stores.sql_app import add, dies_once, total
dying = [dies_once.s(sys.argv[1] + "/a", 1), dies_once.s(sys.argv[1] + "/b", 2)]
nested = [group(add.s(1, 1), add.s(2, 2)), chain(add.s(1, 1), add.s(3))]
found = [chord(each, total.s()).delay() for each in ([add.s(i, i) for i in range(30)], nested, [*dying, add.s(1, 2)])]
print([result.get(timeout=60) for result in found])
"""


@pytest.mark.processes
@pytest.mark.parametrize("counted", ["", "1"], ids=["looked after", "counted"])
def test_chords_of_a_worker_whose_children_die(url, sqs, start_worker, tmp_path, counted):
    environment = {"RESULTS": url, "COUNTED": counted}
    worker = start_worker("-c", "3", app="tests.stores.sql_app", **environment)
    worker.wait_ready()

    shown = subprocess.run(
        [sys.executable, "-c", CALL, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, **sqs.environment, **environment},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )

    assert shown.stdout.strip() == "[870, 11, 6]", shown.stderr + worker.log
    assert ("celery.chord_unlock" in worker.log) is not bool(counted)
    assert worker.stop() == 0
