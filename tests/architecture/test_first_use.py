"""What an import of the package loads, and what the first message that is sent adds to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest

from tests.support.embedded import ROOT

HEAVY = {
    "amqp",
    "asyncio",
    "boto3",
    "botocore",
    "dataclasses",
    "email",
    "inspect",
    "kombu",
    "multiprocessing",
    "ssl",
    "vine",
}
MOST_MODULES = 100
"""That an import may add to those of a fresh interpreter; 86 in Python 3.11."""
SEND = """
from pyqs_celery import Celery, group
app = Celery("first", broker="sqs://", task_default_queue="first")
@app.task
def add(a, b):
    return a + b
add.delay(1, b="two")
"""


def loaded_by(code: str, **variables: str) -> set[str]:
    """The modules that a fresh interpreter imports for this code."""
    program = f"import sys\nbefore = set(sys.modules)\n{code}\nprint('\\n'.join(sorted(set(sys.modules) - before)))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
    )
    return set(done.stdout.split())


def packages(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("statement", ["import pyqs_celery", "from pyqs_celery import shared_task, Celery"])
def test_an_import_loads_nothing_that_is_for_first_use(statement: str) -> None:
    loaded = loaded_by(statement)

    assert not packages(loaded) & HEAVY
    assert len(loaded) <= MOST_MODULES, sorted(loaded)


def test_the_first_message_needs_botocore_and_nothing_around_it(sqs: Any) -> None:
    sqs.create("first")

    loaded = loaded_by(SEND, **sqs.environment)

    assert len(sqs.bodies("first")) == 1
    assert "botocore.session" in loaded
    assert not packages(loaded) & {"amqp", "asyncio", "boto3", "kombu", "multiprocessing", "s3transfer", "vine"}
    rooms = {name.split(".")[1] for name in loaded if name.startswith("pyqs_celery.")}
    assert not rooms & {
        "backends",
        "beat",
        "bin",
        "contrib",
        "doctor",
        "events",
        "execution",
        "local",
        "schedules",
        "worker",
    }
    assert not loaded & {"pyqs_celery.wire.body", "pyqs_celery.wire.envelope", "pyqs_celery.wire.serializers"}


def test_an_error_is_kombus_too_though_nobody_had_imported_kombu() -> None:
    program = """
import json, pickle, sys
from pyqs_celery import exceptions
had = "kombu" in sys.modules
try:
    raise exceptions.QueueDoesNotExist("gone", code="NonExistentQueue")
except Exception as exc:
    from kombu.exceptions import OperationalError
    again = pickle.loads(pickle.dumps(exc))
    print(json.dumps([had, isinstance(exc, OperationalError), type(exc).__module__, type(again) is type(exc)]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert json.loads(done.stdout) == [False, True, "pyqs_celery.exceptions", True]


def test_json_is_the_same_before_and_after_kombu_is_loaded() -> None:
    program = """
import sys
from datetime import datetime
from pyqs_celery.wire.dumping import dumps
plain, other = [["\u00e4", 1.5, None, (1, 2)], {"a": True}], [datetime(2031, 2, 3)]
early = dumps(plain, "json")
assert "kombu" not in sys.modules
with_kombus_types = dumps(other, "json")
from kombu import serialization
def by_kombu(value):
    content_type, encoding, text = serialization.dumps(value, serializer="json")
    return content_type, encoding, text.encode()
assert early == by_kombu(plain) == dumps(plain, "json")
assert with_kombus_types == by_kombu(other)
serialization.register("json", lambda value: "mine", None, "application/json", "utf-8")
assert dumps(plain, "json")[2] == b"mine"
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("refused", ["object()", "{1: set()}", "[b := [], b.append(b)]"])
def test_what_json_does_not_take_is_kombus_encode_error_in_a_fresh_process(refused: str) -> None:
    program = f"""
from pyqs_celery.wire.dumping import dumps
try:
    dumps({refused}, "json")
except Exception as exc:
    from kombu.exceptions import EncodeError
    assert isinstance(exc, EncodeError), repr(exc)
else:
    raise SystemExit("it was taken")
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("name", ["pyqs_celery", "pyqs_celery.exceptions", "pyqs_celery.utils", "pyqs_celery.wire"])
def test_names_that_come_at_first_use_are_there_for_everybody(name: str) -> None:
    module = import_module(name)

    assert set(module.__all__) <= set(dir(module))
    assert all(getattr(module, each) is not None for each in module.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = module.nonsense
