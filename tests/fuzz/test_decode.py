"""No input at all makes the decoder raise anything but its own errors, hang, or run code."""

from __future__ import annotations

import base64
import json
import os
import pickle
import random
import resource
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyqs_celery import wire
from pyqs_celery.exceptions import WireError
from pyqs_celery.wire.envelope import head_from_plain, head_to_plain
from tests.support.golden import CERTIFICATE, captured

EXAMPLES = int(os.environ.get("PYQS_CELERY_FUZZ_EXAMPLES", "3000"))
ACCEPT = ("json", "pickle", "yaml", "msgpack", "auth")
# With the class list on, as it should be wherever pickles of strangers are read.
ALLOWED = ["datetime.*", "decimal.Decimal", "uuid.UUID", "golden_types.*"]
BODIES = sorted(
    {found["sqs_message"]["Body"] for found in captured().values() if len(found["sqs_message"]["Body"]) < 20_000}
)
SLOWEST_SECONDS = 5.0


def attempt(message: Any) -> None:
    """Decode, and see that only a WireError comes of it, soon."""
    began = time.monotonic()
    for accept in (("json",), ACCEPT):
        try:
            found = wire.decode(
                message, accept_content=accept, pickle_allowed_classes=ALLOWED, certificates=[CERTIFICATE]
            )
        except WireError:
            continue
        assert isinstance(found.args, list)
        assert isinstance(found.kwargs, dict)
        assert isinstance(found.task, str)
    assert time.monotonic() - began < SLOWEST_SECONDS


def layers(body: str) -> tuple[dict[str, Any], bytes] | None:
    """The envelope and the bytes of its body, if there are such."""
    try:
        envelope = json.loads(body if body.startswith("{") else base64.b64decode(body))
        return envelope, base64.b64decode(envelope["body"])
    except (ValueError, KeyError, TypeError):
        return None


def flipped(raw: bytes, dice: random.Random) -> bytes:
    """A few bytes changed, dropped, doubled or cut off."""
    data = bytearray(raw)
    for _ in range(dice.randint(1, 6)):
        if not data:
            break
        at = dice.randrange(len(data))
        match dice.randrange(5):
            case 0:
                data[at] = dice.randrange(256)
            case 1:
                del data[at]
            case 2:
                data[at:at] = bytes([dice.randrange(256)])
            case 3:
                end = min(len(data), at + dice.randint(1, 20))
                data[at:at] = data[at:end]
            case _:
                del data[at:]
    return bytes(data)


JUNK = [
    None,
    True,
    0,
    -1,
    1e308,
    float("nan"),
    "",
    "x",
    [],
    {},
    [[]],
    {"a": None},
    10**30,
    "\ud800",
    "9" * 5000,
    ["x"] * 3,
]


def mutate_value(value: Any, dice: random.Random, depth: int = 0) -> Any:
    """One place of a JSON document made into something else."""
    if depth > 6 or dice.random() < 0.25 or not isinstance(value, (dict, list)) or not value:
        return dice.choice(JUNK)
    if isinstance(value, dict):
        key = dice.choice(sorted(value, key=str))
        if dice.random() < 0.2:
            return {name: each for name, each in value.items() if name != key}
        return {**value, key: mutate_value(value[key], dice, depth + 1)}
    at = dice.randrange(len(value))
    return [*value[:at], mutate_value(value[at], dice, depth + 1), *value[at + 1 :]]


def mutated(seed: int) -> str:
    """A captured message with something wrong at one of its layers."""
    dice = random.Random(seed)
    body = dice.choice(BODIES)
    taken = layers(body)
    kind = dice.randrange(4)
    if taken is None or kind == 0:
        return flipped(body.encode(), dice).decode("utf-8", "replace")
    envelope, inner = taken
    if kind == 1:
        envelope = mutate_value(envelope, dice)
    elif kind == 2:
        envelope["body"] = base64.b64encode(flipped(inner, dice)).decode()
    else:
        try:
            document = json.loads(inner)
        except ValueError:
            envelope["body"] = base64.b64encode(flipped(inner, dice)).decode()
        else:
            envelope["body"] = base64.b64encode(json.dumps(mutate_value(document, dice)).encode()).decode()
    text = json.dumps(envelope)
    return base64.b64encode(text.encode()).decode() if dice.random() < 0.7 else text


@pytest.mark.timeout(3600)
def test_mutated_messages_of_real_producers():
    for seed in range(EXAMPLES):
        attempt({"Body": mutated(seed)})


@settings(max_examples=max(200, EXAMPLES // 20), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.text(max_size=400))
def test_any_text(text):
    attempt({"Body": text})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
ENVELOPES = st.fixed_dictionaries(
    {},
    optional={
        "body": st.text(max_size=60) | JSON,
        "headers": st.fixed_dictionaries(
            {},
            optional=dict.fromkeys(
                ("task", "id", "eta", "expires", "timelimit", "retries", "compression", "group"), JSON
            ),
        )
        | JSON,
        "properties": st.fixed_dictionaries(
            {}, optional={"body_encoding": st.sampled_from(["base64", "utf-8", "x", None]) | JSON}
        )
        | JSON,
        "content-type": st.sampled_from(["application/json", "application/x-yaml", "application/data", "x"]) | JSON,
        "content-encoding": st.sampled_from(["utf-8", "binary", "rot13", "idna"]) | JSON,
        "task": JSON,
        "args": JSON,
        "kwargs": JSON,
    },
)


@settings(max_examples=max(200, EXAMPLES // 10), deadline=None, suppress_health_check=list(HealthCheck))
@given(ENVELOPES)
def test_any_envelope(envelope):
    attempt({"Body": json.dumps(envelope)})


@pytest.mark.parametrize("message", [None, {}, [], "text", {"Body": None}, {"Body": b"x"}, {"Body": 5}])
def test_what_is_no_sqs_message(message):
    with pytest.raises(WireError):
        wire.decode(message)


@pytest.mark.parametrize("depth", [500, 5_000, 200_000])
@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_deep_nesting_at_each_layer(depth, brackets):
    opening = "[" if brackets == "[]" else '{"a":'
    deep = opening * depth + "1" + brackets[1] * depth
    attempt({"Body": deep})
    attempt({"Body": base64.b64encode(deep.encode()).decode()})
    headers = {"task": "t", "id": "1"}
    inner = base64.b64encode(f"[[{deep}], {{}}, {{}}]".encode()).decode()
    envelope = {
        "body": inner,
        "headers": headers,
        "properties": {"body_encoding": "base64"},
        "content-type": "application/json",
    }
    attempt({"Body": json.dumps(envelope)})


class Malice:
    """A pickle that leaves a file behind if anybody opens it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("accept", [("json",), ("json", "pickle")])
def test_a_hostile_pickle_runs_no_code(tmp_path, accept):
    evidence = tmp_path / "evidence"
    raw = pickle.dumps(([Malice(str(evidence))], {}, {}))
    envelope = {
        "body": base64.b64encode(raw).decode(),
        "headers": {"task": "t", "id": "1"},
        "properties": {"body_encoding": "base64"},
        "content-type": "application/x-python-serialize",
        "content-encoding": "binary",
    }

    with pytest.raises(WireError):
        wire.decode({"Body": json.dumps(envelope)}, accept_content=accept, pickle_allowed_classes=ALLOWED)

    assert not evidence.exists()


@pytest.mark.parametrize("tail", [b"r\xff\xff\xff\x7f", b"\x96\xff\xff\xff\xff\x03\x00\x00\x00", b"p2000000000\n"])
def test_a_small_pickle_cannot_ask_for_much_memory(tail):
    envelope = {
        "body": base64.b64encode(b"\x80\x05]" + tail + b".").decode(),
        "headers": {"task": "t", "id": "1"},
        "properties": {"body_encoding": "base64"},
        "content-type": "application/x-python-serialize",
        "content-encoding": "binary",
    }
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(WireError):
        wire.decode({"Body": json.dumps(envelope)}, accept_content=("pickle",))

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 100_000


@pytest.mark.parametrize(
    ("kind", "module"), [("application/x-gzip", "zlib"), ("application/x-bz2", "bz2"), ("application/x-lzma", "lzma")]
)
def test_a_decompression_bomb_is_refused_before_it_grows(kind, module):
    packed = __import__(module).compress(b" " * (256 * 1024 * 1024))
    envelope = {
        "body": base64.b64encode(packed).decode(),
        "headers": {"task": "t", "id": "1", "compression": kind},
        "properties": {"body_encoding": "base64"},
        "content-type": "application/json",
        "content-encoding": "utf-8",
    }

    with pytest.raises(WireError):
        wire.decode({"Body": json.dumps(envelope)})


@settings(max_examples=max(100, EXAMPLES // 50), deadline=None)
@given(st.sampled_from(BODIES))
def test_a_head_survives_its_way_to_a_child(body):
    try:
        head = wire.decode_head(body)
    except WireError:
        return
    assert repr(head_from_plain(head_to_plain(head))) == repr(head)
