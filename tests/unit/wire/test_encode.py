"""What we write is, byte for byte, what Celery 5.7 wrote for the same call."""

from __future__ import annotations

import base64
import json
from typing import Any

import kombu
import pytest
from kombu.exceptions import EncodeError

from pyqs_celery import wire
from pyqs_celery.wire.call import TaskCall
from tests.support.golden import captured

NAMES_5_7 = [
    name
    for name, found in captured().items()
    if name.startswith("celery-5.7.0")
    and found["expected"]["outcome"] == "task"
    and found["expected"]["content_type"] in ("application/json", "application/x-yaml", "application/x-msgpack")
]
# A worker's own retries carry the header order and the type of time limits of the code path that wrote them.
FIXED = {
    "body_encoding",
    "delivery_info",
    "delivery_tag",
    "delivery_mode",
    "priority",
    "correlation_id",
    "reply_to",
    "expiration",
}
SERIALIZERS = {"application/json": "json", "application/x-yaml": "yaml", "application/x-msgpack": "msgpack"}
COMPRESSIONS = {
    "application/x-gzip": "gzip",
    "application/x-bz2": "bzip2",
    "application/x-lzma": "lzma",
    "application/x-brotli": "brotli",
    "application/zstd": "zstd",
}


def envelope_of(body: str) -> tuple[dict[str, Any], bool]:
    is_plain = body.startswith("{")
    return json.loads(body if is_plain else base64.b64decode(body)), not is_plain


def call_of(message: wire.TaskMessage, properties: dict[str, Any]) -> TaskCall:
    expiration = properties.get("expiration")
    return TaskCall(
        message.task,
        message.id or "",
        args=message.args,
        kwargs=message.kwargs,
        eta=message.eta,
        expires=message.expires,
        expiration_ms=int(expiration) if expiration is not None else None,
        retries=message.retries,
        group=message.group,
        group_index=message.group_index,
        callbacks=message.callbacks,
        errbacks=message.errbacks,
        chain=message.chain,
        chord=message.chord,
        timelimit=(message.timelimit[0], message.timelimit[1]),
        root_id=message.root_id,
        parent_id=message.parent_id,
        shadow=message.shadow,
        ignore_result=message.ignore_result,
        replaced_task_nesting=message.replaced_task_nesting or 0,
        stamped_headers=message.stamped_headers,
        stamps=message.stamps,
        argsrepr=message.argsrepr,
        kwargsrepr=message.kwargsrepr,
        origin=message.origin or "",
        reply_to=message.reply_to or "",
        utc=True if message.utc is None else message.utc,
        headers=message.headers,
        properties={key: value for key, value in properties.items() if key not in FIXED},
        priority=properties["priority"],
        delivery_mode=properties["delivery_mode"],
        exchange=properties["delivery_info"]["exchange"],
        routing_key=properties["delivery_info"]["routing_key"],
    )


@pytest.mark.parametrize("name", NAMES_5_7)
def test_the_same_call_gives_the_same_bytes(name: str) -> None:
    if "json_type" in name and kombu.VERSION < (5, 3):
        pytest.skip(
            "kombu writes dates, decimals and bytes in its own JSON from 5.3 on; with an older one we write as it does"
        )
    # given a captured message, read back into the call that made it
    found = captured()[name]
    body = found["sqs_message"]["Body"]
    envelope, is_base64 = envelope_of(body)
    message = wire.decode(found["sqs_message"], accept_content=("json", "yaml", "msgpack"))
    call = call_of(message, envelope["properties"])

    # when it is written again
    written = wire.encode(
        wire.build_parts(call, protocol=1 if message.protocol == 1 else 2),
        delivery_tag=envelope["properties"]["delivery_tag"],
        serializer=SERIALIZERS[envelope["content-type"]],
        compression=COMPRESSIONS.get(envelope["headers"].get("compression", "")),
        base64_body=is_base64,
        body_encoding=envelope["properties"]["body_encoding"],
    )

    # then it is the same
    again, _ = envelope_of(written)
    assert json.dumps(again) == json.dumps(envelope)
    assert written == body


def test_an_argument_that_no_serializer_takes_is_a_clear_error() -> None:
    call = TaskCall("a.b", "1", args=[object()])

    with pytest.raises(EncodeError):
        wire.encode(wire.build_parts(call), delivery_tag="t")


@pytest.mark.parametrize(("args", "kwargs"), [("text", {}), ([], [1]), (7, {})])
def test_arguments_of_the_wrong_shape_are_refused(args: Any, kwargs: Any) -> None:
    with pytest.raises(TypeError):
        wire.build_parts(TaskCall("a.b", "1", args=args, kwargs=kwargs))
