"""Signed messages between Celery and us: each side reads what the other has signed, and neither reads anything else."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from compat_tests.conftest import APPS, PEER
from tests.support.certificates import Identity
from tests.support.embedded import ROOT
from tests.support.waiting import until

VALUES = [
    ["plain", 1, None],
    ["text", "é\x00\x01 漢字", None],
    ["nested", {"a": [1, None, 2.5]}, None],
    ["again", [], None],
]


@pytest.fixture
def keys(tmp_path, peer_version):
    """Two who are known, one who is not."""
    found = subprocess.run([PEER, "-c", "import cryptography"], check=False, capture_output=True)
    if found.returncode:
        pytest.skip("the peer has no cryptography")
    if peer_version < (5, 5):
        pytest.skip("Celery up to 5.4 writes and reads another form of signatures, or none with today's certificates")
    folder = tmp_path / "keys"
    for name in ("known-celery", "known-ours", "stranger"):
        Identity(folder, name)
    return folder


@pytest.fixture
def send(stage, keys):
    """``send(side, identity, *calls)``."""

    def send_all(side, identity, *calls):
        python = PEER if side == "celery_side" else sys.executable
        path = f"{APPS}:{ROOT}" if side == "our_side" else str(APPS)
        done = subprocess.run(
            [python, str(APPS / "signed_side.py"), json.dumps(calls)],
            env={**stage._environment, "SIDE": side, "KEYS": str(keys), "IDENTITY": identity, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "sent" in done.stdout, done.stderr[-3000:]

    return send_all


@pytest.mark.parametrize(("sender", "reader"), [("celery_side", "our_side"), ("our_side", "celery_side")])
def test_each_reads_what_the_other_has_signed(sqs, stage, keys, send, sender, reader):
    """Also messages that the task itself sends on, and its retry, which the reader signs in its turn."""
    send(sender, "known-celery" if sender == "celery_side" else "known-ours", *VALUES, ["first", 1, "second"])

    stage.work_as(reader, "signed_side", keys=keys, identity="known-ours")

    stage.wait("run", len(VALUES) + 3, 90)
    runs = {entry["key"]: entry["args"] for entry in stage.runs()}
    assert runs == {**{key: repr(value) for key, value, _ in VALUES}, "first": "1", "second": "1"}
    assert {entry["side"] for entry in stage.runs()} == {reader}


@pytest.mark.parametrize("identity", ["stranger", "nobody"])
@pytest.mark.parametrize("sender", ["celery_side", "our_side"])
def test_what_a_stranger_signs_or_nobody_does_not_enter(sqs, stage, keys, send, sender, identity):
    """It is kept, with the reason; what comes after it is read."""
    sqs.create_with_dead_letters("compat", 3)
    send(sender, identity, ["bad", 1, None])
    send(sender, "known-celery", ["good", 1, None])

    stage.work_as("our_side", "signed_side", keys=keys, identity="known-ours")

    stage.wait("run", 1, 60)
    until(lambda: sqs.state("compat-dlq").get("visible") == 1, "the bad one is in the dead-letter queue")
    assert [entry["key"] for entry in stage.runs()] == ["good"]
    [attributes] = sqs.attributes("compat-dlq")
    wanted = "not signed by anybody" if identity == "stranger" else "'application/json' is not accepted"
    assert wanted in attributes["pyqs.reason"]["StringValue"]
