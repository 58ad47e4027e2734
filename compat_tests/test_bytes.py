"""The same call by both sides: the same envelope but for what is random."""

from __future__ import annotations

import base64
import json

import pytest

OPTIONS = {
    "plain": {},
    "pickle": {"serializer": "pickle"},
    "protocol 1": {"protocol": 1},
    "limits": {"time_limit": 5, "soft_time_limit": 3},
    "headers": {"headers": {"a": 1}, "shadow": "other", "priority": 3},
    "eta": {"eta": {"$date": "2099-01-02T03:04:05.678901+00:00"}, "DelaySeconds": 0},
    "expires": {"expires": {"$date": "2099-01-02T03:04:05+00:00"}},
    "gzip": {"compression": "gzip"},
    "ignored": {"ignore_result": True},
}
RANDOM = {"origin", "delivery_tag", "reply_to", "expiration"}


def envelope(body: str) -> str:
    document = json.loads(base64.b64decode(body))
    for part in (document["headers"], document["properties"]):
        for name in RANDOM & set(part):
            part[name] = "random"
    return json.dumps(document)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_same_call_gives_the_same_envelope(sqs, stage, peer_version, name):
    if peer_version < (5, 7):
        pytest.skip("5.7's bytes are what we promise; older versions write other headers")
    options = {**OPTIONS[name], "queue": "compat", "task_id": "11111111-2222-3333-4444-555555555555"}
    call = ["note", ["k", 1, "é"], {"b": [1.5, None]}, options]

    stage.produce("celery_side", call)
    stage.produce("our_side", call)

    theirs, ours = (envelope(body) for body in sqs.bodies("compat"))
    assert ours == theirs
