"""``pyqs-celery result`` for each state a task may be in."""

from __future__ import annotations

import threading
import uuid

import pytest

from pyqs_celery import Celery
from pyqs_celery.bin import run
from tests.support.waiting import until


@pytest.fixture
def app():
    made = Celery("r", broker="memory://r", backend=f"cache+memory://{uuid.uuid4().hex}", set_as_current=False)
    made.task(name="job")(lambda: None)
    yield made
    made.close()


@pytest.fixture
def ask(app, capsys):
    """``ask("id", "--traceback")`` gives exit code, standard output and standard error."""

    def run_it(*words):
        code = run(["result", *words], app)
        out, err = capsys.readouterr()
        return code, out.strip(), err.strip()

    return run_it


def test_a_value_is_printed(app, ask):
    app.backend.store_result("a", {"answer": [42, "ü"]}, "SUCCESS")

    assert ask("a") == (0, "{'answer': [42, 'ü']}", "")
    assert ask("a", "-t", "job") == (0, "{'answer': [42, 'ü']}", "")
    assert ask("a", "--traceback") == (0, "", "")


def test_none_is_a_value(app, ask):
    app.backend.store_result("a", None, "SUCCESS")

    assert ask("a") == (0, "None", "")


def test_a_failure_is_told_with_celerys_exit_code(app, ask):
    app.backend.mark_as_failure("a", KeyError("k"), traceback="Traceback ...\nKeyError: 'k'")

    assert ask("a") == (1, "", "Task a ended with FAILURE: KeyError: 'k'")
    assert ask("a", "--traceback") == (0, "Traceback ...\nKeyError: 'k'", "")


def test_so_is_a_revocation(app, ask):
    app.backend.mark_as_revoked("a", "terminated")

    assert ask("a") == (1, "", "Task a ended with REVOKED: TaskRevokedError: terminated")


@pytest.mark.parametrize(
    ("state", "meaning"),
    [("STARTED", "it runs"), ("RETRY", "it failed and will be tried again"), ("PROGRESS", "it has not ended")],
)
def test_what_has_not_ended_is_not_waited_for(app, ask, state, meaning):
    app.backend.store_result("a", None, state)

    code, out, err = ask("a")

    assert (code, out) == (1, "")
    assert err == f"Task a has no result yet; its state is {state}: {meaning}"


def test_an_id_nobody_has_heard_of_is_pending(ask):
    code, out, err = ask("nobody")

    assert (code, out) == (1, "")
    assert "PENDING" in err
    assert "there is no such task" in err


def test_a_result_may_be_waited_for(app, ask):
    code, _, err = ask("a", "--timeout", "0.01")
    assert code == 1
    assert "PENDING" in err
    app.backend.store_result("a", 7, "SUCCESS")

    assert ask("a", "--timeout", "30") == (0, "7", "")


def test_a_result_that_comes_while_it_is_waited_for(app, capsys):
    done = []
    thread = threading.Thread(target=lambda: done.append(run(["result", "a", "--timeout", "30"], app)))
    thread.start()

    app.backend.store_result("a", 7, "SUCCESS")

    until(lambda: done, "it is printed")
    thread.join()
    assert done == [0]
    assert capsys.readouterr().out.strip() == "7"


def test_without_a_result_store_the_command_says_what_to_set(capsys):
    bare = Celery("bare", broker="memory://bare", set_as_current=False)

    assert run(["result", "a"], bare) == 1
    assert capsys.readouterr().err == (
        "Error: this application keeps no results: set result_backend, or name a store before the command, "
        "--result-backend URL\n"
    )


def test_a_task_that_is_not_registered(ask):
    code, _, err = ask("a", "--task", "nobody")

    assert code == 2
    assert "no such task is registered" in err
