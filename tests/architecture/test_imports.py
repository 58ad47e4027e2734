"""Who may import whom: the house's floors, and what may not enter which room.

docs/architecture.rst tells the same in prose.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.architecture.source_tree import Import, Module, modules

# The floor of each room; the longest prefix counts. Arrows point down or stay in the same room.
FLOORS = {
    "exceptions": 0,
    "kombu_errors": 0,
    "states": 0,
    "signals": 0,
    "schedules": 1,
    "outcome": 0,
    "utils": 0,
    "local_proxy": 0,
    "_state": 0,
    "wire": 1,
    "local": 1,
    "broker.delivery": 1,
    "broker.limits": 1,
    "broker": 2,
    "backends": 3,
    "app": 3,
    "canvas": 3,
    "result": 3,
    "revocation": 3,
    "security": 3,
    "dedupe": 3,
    "result_base": 3,
    "result_sets": 3,
    "execution": 3,
    "decorator": 3,
    "continuations": 3,
    "events": 3,
    "fixups": 3,
    "bootsteps": 3,
    "registry": 3,
    "concurrency": 3,
    "loaders": 3,
    "alias": 0,
    "platforms": 0,
    "version": 0,
    "nodes": 0,
    "worker": 4,
    "doctor": 4,
    "bin": 5,
    "contrib": 5,
    "beat": 4,
    "main": 5,
    "__main__": 5,
    "": 5,
}
# Rooms on one floor that do not know each other.
STRANGERS = [("broker", "backends")]

# A lower room that makes a higher one on first use, inside a function: importing it loads nothing.
LAZY_UPWARD = {
    ("_state", "app"): "the default application is made when somebody asks for the current one",
    ("app.base", "bin"): "app.worker_main and app.start are the command line under Celery's names",
    ("app.surface", "bin"): "app.Worker starts a worker under Celery's name",
    ("app.surface", "beat"): "app.Beat starts a beat under Celery's name",
}

CORE_FORBIDDEN = {
    "threading",
    "multiprocessing",
    "subprocess",
    "socket",
    "select",
    "selectors",
    "asyncio",
    "time",
    "random",
    "os",
    "signal",
}
WIRE_MAY_USE = {"kombu.serialization", "kombu.utils.json", "kombu.compression", "kombu.exceptions"}
# app.connection() and app.amqp hand kombu's objects to code of the user's that wants them; nothing of ours sends by them.
KOMBU_FOR_USERS = {
    "pyqs_celery.app.surface": {"kombu.connection", "kombu.pools"},
    "pyqs_celery.app.amqp": {"kombu.entity"},
}
KOMBU_ALLOWED = WIRE_MAY_USE | {"kombu.utils.uuid", "kombu.utils.url", "kombu.utils", "kombu"}
AWS_IMPORTERS = {
    "pyqs_celery.broker.connections": "the clients and their settings",
    "pyqs_celery.broker.roundtrip": "signs and sends by what botocore has for that",
    "pyqs_celery.broker.credentials": "the keys and the session that a client signs with",
    "pyqs_celery.broker.errors": "the one table from botocore's errors to ours",
    "pyqs_celery.backends.aws": "the client, the calls and the errors of the stores at AWS",
    "pyqs_celery.local.client": "raises botocore's ClientError, as the client it stands in for does",
}

MODULES = modules()
FACADES = {module.name for module in MODULES if module.is_facade} | {"pyqs_celery"}


def each_module(where: Callable[[Module], bool] = lambda _: True) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("module", list(filter(where, MODULES)), ids=lambda module: module.name)


def room(name: str) -> str:
    """The part of a module's name that FLOORS knows, '' for the package itself."""
    parts = name.split(".")[1:]
    while parts and ".".join(parts) not in FLOORS:
        parts.pop()
    return ".".join(parts)


def inside(name: str, place: str) -> bool:
    return name == place or name.startswith(place + ".")


def ours(module: Module) -> list[Import]:
    return [found for found in module.imports if inside(found.target, "pyqs_celery") and not found.typing_only]


def is_lazy_upward(module: Module, found: Import) -> bool:
    return found.in_function and any(
        inside(module.name, f"pyqs_celery.{low}") and inside(found.target, f"pyqs_celery.{high}")
        for low, high in LAZY_UPWARD
    )


def test_every_module_has_a_floor() -> None:
    homeless = [module.name for module in MODULES if module.name != "pyqs_celery" and not room(module.name)]

    assert not homeless, f"no floor is known for {homeless}: give the room a row in FLOORS and in docs/architecture.rst"


# The face of the package names every room, lazily.
@each_module(lambda module: module.name != "pyqs_celery")
def test_arrows_point_down(module: Module) -> None:
    floor = FLOORS[room(module.name)]

    upward = [
        f"line {found.line}: {found.target} (floor {FLOORS[room(found.target)]})"
        for found in ours(module)
        if found.target != "pyqs_celery" and FLOORS[room(found.target)] > floor and not is_lazy_upward(module, found)
    ]

    assert not upward, f"{module.name} is on floor {floor} and may import its own floor or lower, not {upward}"


@each_module()
def test_strangers_stay_strangers(module: Module) -> None:
    for one, other in [*STRANGERS, *((b, a) for a, b in STRANGERS)]:
        if inside(module.name, f"pyqs_celery.{one}"):
            met = [found.target for found in ours(module) if inside(found.target, f"pyqs_celery.{other}")]
            assert not met, f"{one} and {other} do not know each other, but {module.name} imports {met}"


@each_module()
def test_celery_is_never_imported(module: Module) -> None:
    lines = [found.line for found in module.imports if inside(found.target, "celery")]

    assert not lines, f"{module.name} imports celery on lines {lines}: this package replaces it and must work without"


@each_module()
def test_aws_is_reached_through_one_room_and_only_when_needed(module: Module) -> None:
    found = [
        entry
        for entry in module.imports
        if (inside(entry.target, "boto3") or inside(entry.target, "botocore")) and not entry.typing_only
    ]

    if module.name in AWS_IMPORTERS:
        eager = [entry.line for entry in found if not entry.in_function]
        assert not eager, f"{module.name} imports boto3 or botocore at lines {eager}: only inside functions"
    else:
        assert not found, f"{module.name} imports {found}: boto3 and botocore belong to {sorted(AWS_IMPORTERS)}"


@each_module()
def test_kombu_is_used_for_serialization_and_errors_only(module: Module) -> None:
    allowed = WIRE_MAY_USE if inside(module.name, "pyqs_celery.wire") else KOMBU_ALLOWED
    allowed = allowed | KOMBU_FOR_USERS.get(module.name, set())

    strange = [
        found.target for found in module.imports if inside(found.target, "kombu") and found.target not in allowed
    ]

    assert not strange, (
        f"{module.name} imports {strange}; of kombu only {sorted(allowed)} are used, never its transports"
    )


@each_module(lambda module: inside(module.name, "pyqs_celery.worker.core"))
def test_the_workers_decisions_need_no_clock_thread_or_socket(module: Module) -> None:
    impure = [found.target for found in module.imports if found.target.split(".")[0] in CORE_FORBIDDEN]
    broker = [
        found.target
        for found in ours(module)
        if inside(found.target, "pyqs_celery.broker") and room(found.target) not in ("broker.delivery", "broker.limits")
    ]

    assert not impure, f"{module.name} is pure: time, randomness and IO are passed in, so it may not import {impure}"
    assert not broker, f"{module.name} decides and does not talk to SQS, so it may not import {broker}"


def test_the_manager_forks_so_it_has_no_threads_and_no_connection() -> None:
    managers = [module for module in MODULES if module.name == "pyqs_celery.worker.manager"]

    for module in managers:
        forbidden = [
            found.target
            for found in module.imports
            if found.target == "threading" or inside(found.target, "pyqs_celery.broker")
        ]
        assert not forbidden, f"the manager forks: it may import neither threading nor the broker, not {forbidden}"


# Faces of the package may use its face.
@each_module(
    lambda module: module.name not in FACADES and room(module.name) not in ("bin", "main", "__main__", "alias")
)
def test_inner_rooms_import_the_real_module_not_a_re_export(module: Module) -> None:
    through = [f"line {found.line}: {found.target}" for found in ours(module) if found.target in FACADES]

    assert not through, f"{module.name} imports through a re-export; import the module that holds the code: {through}"


@pytest.mark.parametrize("statement", ["import pyqs_celery", "from pyqs_celery import shared_task"])
def test_importing_the_package_is_light(statement: str) -> None:
    code = (
        f"{statement}\nimport sys\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('boto3', 'botocore') or m.startswith('kombu.transport')])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]", f"`{statement}` loads {done.stdout.strip()}; they are for first use"
