"""The restricted unpickler: what a pickle may name, make and change when ``pickle_allowed_classes`` is set."""

from __future__ import annotations

import collections
import decimal
import functools
import operator
import os
import pickle
import resource
import subprocess
import sys
import time
import types
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from pyqs_celery.exceptions import SoftTimeLimitExceeded
from pyqs_celery.wire import pickling


class Allowed:
    """A class of the application's that messages may hold."""

    level = "user"

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Allowed) and vars(other) == vars(self)

    __hash__ = None  # type: ignore[assignment]

    class Inner(decimal.Decimal):
        """A class within a class."""


def helper(text: str) -> str:
    """A function of the application's."""
    return f"helped {text}"


@pytest.fixture
def module(monkeypatch):
    """The application's module, which imports what others must not reach through it."""
    made = types.ModuleType("shop")
    Allowed.__module__ = Allowed.Inner.__module__ = helper.__module__ = "shop"
    Allowed.__qualname__, Allowed.Inner.__qualname__, helper.__qualname__ = "Allowed", "Allowed.Inner", "helper"
    vars(made).update(os=os, subprocess=subprocess, Popen=subprocess.Popen, Allowed=Allowed, helper=helper)
    monkeypatch.setitem(sys.modules, "shop", made)
    return made


GLOBS = ["shop.*"]


def named(module_name: str, name: str, *, protocol: int = 4) -> bytes:
    """A pickle that names something and leaves it on the stack."""
    if protocol < 4:
        return f"c{module_name}\n{name}\n".encode()
    return b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module_name, name)) + b"\x93"


def calling(module_name: str, name: str, argument: str, *, protocol: int = 4) -> bytes:
    """A pickle that calls what it names."""
    start = b"\x80\x04" if protocol >= 4 else b""
    return start + named(module_name, name, protocol=protocol) + b"(V" + argument.encode() + b"\ntR."


REACHING_OUT = [
    ("os", "system"),
    ("posix", "system"),
    ("nt", "system"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "getattr"),
    ("builtins", "__import__"),
    ("__builtin__", "eval"),
    ("copyreg", "_reconstructor"),
    ("copyreg", "__newobj__"),
    ("operator", "attrgetter"),
    ("operator", "methodcaller"),
    ("functools", "partial"),
    ("functools", "reduce"),
    ("subprocess", "Popen"),
    ("runpy", "run_path"),
    ("pickle", "loads"),
    ("marshal", "loads"),
    ("types", "FunctionType"),
    ("importlib", "import_module"),
    ("shop", "os.system"),
    ("shop", "subprocess.Popen"),
    ("shop", "Popen"),
    ("shop", "helper"),
    ("shop", "helper.__globals__"),
    ("shop", "Allowed.__init__"),
    ("shop", "Allowed.__init__.__globals__"),
    ("shop", "Allowed.__subclasses__"),
    ("shop", "Allowed.__class__.__subclasses__"),
    ("shop", "Allowed.__mro__"),
    ("celery.utils.imports", "sys.modules"),
    ("celery.utils.imports", "symbol_by_name"),
    ("celery.canvas", "signature.__globals__"),
    ("pyqs_celery.wire.pickling", "importlib.import_module"),
    ("uuid", "UUID.__init__.__globals__"),
    ("datetime", "datetime.__class__"),
    ("collections", "OrderedDict.__reduce__"),
    ("shop.", "Allowed"),
    ("", "shop"),
]


@pytest.mark.parametrize("protocol", [0, 4])
@pytest.mark.parametrize(("module_name", "name"), REACHING_OUT)
def test_nothing_but_a_class_of_an_allowed_path_can_be_named(module, module_name, name, protocol):
    data = calling(module_name, name, "true", protocol=protocol)

    with pytest.raises(pickle.UnpicklingError):
        pickling.loads(data, GLOBS)


@pytest.mark.parametrize(
    "data",
    [
        b"P1\n.",  # a persistent id of protocol 0
        b"\x80\x02K\x01Q.",  # one of protocol 1
        b"\x80\x02\x82\x01.",  # a code of the extension registry
        b"(ios\nsystem\nVtrue\n.",  # INST: names and calls at once
        b"(cos\nsystem\nVtrue\no.",  # OBJ
        b"cos\nsystem\n)\x81.",  # NEWOBJ
    ],
)
def test_other_ways_to_name_something_lead_nowhere(module, data):
    with pytest.raises((pickle.UnpicklingError, ValueError)):
        pickling.loads(data, GLOBS)


class Call:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "call",
    [
        Call(os.system, "true"),
        Call(getattr, "x", "upper"),
        Call(functools.partial, print, "x"),
        Call(operator.attrgetter, "upper"),
        Call(eval, "1"),
    ],
    ids=["system", "getattr", "partial", "attrgetter", "eval"],
)
def test_a_call_in_any_protocol_is_refused(module, call, protocol):
    with pytest.raises(pickle.UnpicklingError):
        pickling.loads(pickle.dumps([call], protocol=protocol), GLOBS)


def test_what_an_application_allows_comes_back_as_it_was(module):
    value = [
        Allowed(3),
        Allowed.Inner("1.5"),
        datetime(2026, 1, 1, tzinfo=timezone.utc),
        uuid.uuid4(),
        {1},
        frozenset("ab"),
    ]
    value += [
        bytearray(b"x"),
        bytearray(),
        collections.OrderedDict(a=1),
        collections.OrderedDict(),
        timedelta(1),
        1j,
        set(),
    ]

    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickling.loads(pickle.dumps(value, protocol=protocol), GLOBS) == value


def test_a_function_is_let_in_by_its_whole_path_only(module):
    data = calling("shop", "helper", "x")
    assert pickle.loads(data) == "helped x"

    assert pickling.loads(data, ["shop.helper"]) == "helped x"
    with pytest.raises(pickle.UnpicklingError, match="without a wildcard"):
        pickling.loads(data, ["shop.help*"])


def test_the_classes_of_celery_are_ours():
    celery = named("celery.exceptions", "SoftTimeLimitExceeded") + b")R."
    billiard = named("billiard.exceptions", "SoftTimeLimitExceeded") + b")R."

    assert isinstance(pickling.loads(celery, ["celery.exceptions.*"]), SoftTimeLimitExceeded)
    assert isinstance(pickling.loads(billiard, ["billiard.exceptions.*"]), SoftTimeLimitExceeded)


@pytest.mark.parametrize(
    "target",
    [named("shop", "Allowed"), named("uuid", "UUID"), named("celery.canvas", "signature"), named("builtins", "set")],
)
def test_no_class_or_function_can_be_changed(module, target):
    """BUILD with a pair as its state sets attributes of whatever it is given."""
    state = b"(N}Vlevel\nVadmin\nst"

    with pytest.raises(pickle.UnpicklingError, match="change a class"):
        pickling.loads(target + state + b"b.", GLOBS)

    assert Allowed.level == "user"
    assert not hasattr(uuid.UUID, "level")


def test_the_state_of_an_object_can_be_set(module):
    made = pickling.loads(pickle.dumps(Allowed(7)), GLOBS)

    assert made == Allowed(7)


@pytest.mark.parametrize("call", [b"cbuiltins\nbytearray\n", b"cbuiltins\nset\n", b"ccollections\nOrderedDict\n"])
def test_copies_of_its_own_parts_do_not_add_up(module, call):
    many = (
        b"(" + b"".join(b"K\x01" for _ in range(20_000)) + b"l"
        if b"set" in call
        else b"B" + (500_000).to_bytes(4, "little")
    )
    part = many if b"set" in call else many + b"x" * 500_000
    if b"Ordered" in call:
        part = b"(" + b"(K\x01K\x02t" * 20_000 + b"l"
    data = b"\x80\x03" + part + b"q\x000(" + (call + b"h\x00\x85R") * 20_000 + b"l."
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(pickle.UnpicklingError, match="copies"):
        pickling.loads(data, GLOBS)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 400_000


@pytest.mark.parametrize("codec", ["idna", "punycode", "zlib_codec", "bz2_codec", "hex_codec"])
def test_no_codec_is_called_that_takes_hours(module, codec):
    data = b"c_codecs\nencode\n(V" + b"\\u00fc" * 1000 + b"\nV" + codec.encode() + b"\ntR."
    began = time.process_time()

    with pytest.raises(pickle.UnpicklingError, match="codec"):
        pickling.loads(data, GLOBS)

    assert time.process_time() - began < 5


def test_bytes_of_old_protocols_are_read(module):
    assert pickling.loads(pickle.dumps(b"\xff\x00a", protocol=2), []) == b"\xff\x00a"


def test_an_empty_list_allows_what_is_harmless_and_no_more(module):
    assert pickling.loads(pickle.dumps([1, "a", {2}]), []) == [1, "a", {2}]
    with pytest.raises(pickle.UnpicklingError, match=r"shop\.Allowed is not in pickle_allowed_classes"):
        pickling.loads(pickle.dumps(Allowed(1)), [])


def test_the_path_of_a_refused_class_is_told_within_bounds(module):
    data = b"\x80\x04\x8d" + (300_000).to_bytes(8, "little") + b"m" * 300_000 + b"\x8c\x01x\x93."

    with pytest.raises(pickle.UnpicklingError) as told:
        pickling.loads(data, GLOBS)

    assert len(str(told.value)) < 400


def test_it_is_the_same_with_bytes_of_python_2(module):
    """The second reading, with Python 2's rules, is as strict as the first."""
    data = b"\x80\x02(U\x02\xff\xfe" + named("os", "system", protocol=0) + b"(Vtrue\ntRl."

    with pytest.raises(pickle.UnpicklingError):
        pickling.loads(data, GLOBS)
