"""From a task call to the text of an SQS body, byte for byte as Celery 5.7 with kombu 5.7 writes it.

Two steps, since ``before_task_publish`` receivers may change what is sent in between: ``build_parts`` makes the
headers, properties and body, ``encode`` turns them into text.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from pyqs_celery import exceptions
from pyqs_celery.utils.text import saferepr
from pyqs_celery.wire.call import TaskCall
from pyqs_celery.wire.dumping import dumps

Parts = tuple[dict[str, Any], dict[str, Any], Any]
"""Headers, properties, body."""


def build_parts(call: TaskCall, *, protocol: int = 2) -> Parts:
    """The three parts of a message in protocol 1 or 2. Raises TypeError for arguments of the wrong shape."""
    if not isinstance(call.args, (list, tuple)):
        raise TypeError("task args must be a list or tuple")
    if not isinstance(call.kwargs, Mapping):
        raise TypeError("task keyword arguments must be a mapping")
    headers, body = _parts_2(call) if protocol == 2 else _parts_1(call)
    headers.update(call.headers)
    properties: dict[str, Any] = {"correlation_id": call.id, "reply_to": call.reply_to, **call.properties}
    properties["delivery_mode"] = call.delivery_mode
    if call.expiration_ms is not None:
        properties["expiration"] = str(call.expiration_ms)
    properties["delivery_info"] = {"exchange": call.exchange, "routing_key": call.routing_key}
    properties["priority"] = call.priority
    return headers, properties, body


def _parts_2(call: TaskCall) -> tuple[dict[str, Any], Any]:
    headers: dict[str, Any] = {
        "lang": "py",
        "task": call.task,
        "id": call.id,
        "shadow": call.shadow,
        "eta": call.eta,
        "expires": call.expires,
        "group": call.group,
        "group_index": call.group_index,
        "retries": call.retries,
        "timelimit": list(call.timelimit),
        "root_id": call.root_id or call.id,
        "parent_id": call.parent_id,
        "argsrepr": saferepr(call.args) if call.argsrepr is None else call.argsrepr,
        "kwargsrepr": saferepr(call.kwargs) if call.kwargsrepr is None else call.kwargsrepr,
        "origin": call.origin,
        "ignore_result": call.ignore_result,
        "replaced_task_nesting": call.replaced_task_nesting,
        "stamped_headers": call.stamped_headers,
        "stamps": dict(call.stamps),
    }
    embed = {"callbacks": call.callbacks, "errbacks": call.errbacks, "chain": call.chain, "chord": call.chord}
    return headers, (call.args, call.kwargs, embed)


def _parts_1(call: TaskCall) -> tuple[dict[str, Any], Any]:
    body = {
        "task": call.task,
        "id": call.id,
        "args": call.args,
        "kwargs": call.kwargs,
        "group": call.group,
        "group_index": call.group_index,
        "retries": call.retries,
        "eta": call.eta,
        "expires": call.expires,
        "utc": call.utc,
        "callbacks": call.callbacks,
        "errbacks": call.errbacks,
        "timelimit": list(call.timelimit),
        "taskset": call.group,
        "chord": call.chord,
    }
    return {}, body


def encode(
    parts: Parts,
    *,
    delivery_tag: str,
    serializer: str = "json",
    compression: str | None = None,
    base64_body: bool = True,
    body_encoding: str = "base64",
) -> str:
    """The text of the SQS body. Raises kombu's EncodeError for an argument that the serializer does not take.

    ``base64_body`` is the transport option ``sqs_base64_encoding``; ``compression`` a name kombu knows (gzip, bzip2,
    brotli, lzma, zstd).
    """
    headers, properties, body = parts
    content_type, content_encoding, data = dumps(body, serializer)
    if compression:
        from pyqs_celery.wire.compression import compress

        data, headers["compression"] = compress(data, compression)
    text = base64.b64encode(data).decode("ascii") if body_encoding == "base64" else data.decode("utf-8")
    properties = {
        **properties,
        "body_encoding": body_encoding,
        "delivery_tag": delivery_tag,
    }
    envelope = {
        "body": text,
        "content-encoding": content_encoding,
        "content-type": content_type,
        "headers": headers,
        "properties": properties,
    }
    try:
        out = _envelope_json(envelope)
    except (TypeError, ValueError) as exc:
        raise exceptions.EncodeError(
            f"the headers or properties of the message cannot be written as JSON: {exc}"
        ) from exc
    return base64.b64encode(out.encode("utf-8")).decode("ascii") if base64_body else out


def _envelope_json(envelope: dict[str, Any]) -> str:
    try:
        return json.dumps(envelope)
    except TypeError:
        from kombu.utils import json as kombu_json  # values in custom headers that need kombu's types

        return str(kombu_json.dumps(envelope))


def native_body(path: str, args: list[Any] | tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """A PyQS message: plain JSON naming a function by its path. Raises EncodeError."""
    try:
        return json.dumps({"task": path, "args": list(args), "kwargs": dict(kwargs)})
    except (TypeError, ValueError) as exc:
        raise exceptions.EncodeError(f"an argument of {path} is not JSON: {exc}") from exc
