"""Messages: an SQS body becomes a task call, a task call becomes an SQS body. Pure; no input or output.

``decode`` does all at once; the worker uses ``decode_head`` in its consumer and ``decode_body`` in its children.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pyqs_celery.utils.lazy import first_use
from pyqs_celery.wire.call import TaskCall
from pyqs_celery.wire.encode import build_parts, encode, native_body

if TYPE_CHECKING:
    from pyqs_celery.exceptions import BodyDecodeError, EnvelopeError, ForeignMessage, UnacceptedContent, WireError
    from pyqs_celery.wire.body import decode_body
    from pyqs_celery.wire.envelope import decode_head, head_from_plain, head_to_plain
    from pyqs_celery.wire.message import Head, TaskMessage

__all__ = (
    "BodyDecodeError",
    "EnvelopeError",
    "ForeignMessage",
    "Head",
    "TaskCall",
    "TaskMessage",
    "UnacceptedContent",
    "WireError",
    "build_parts",
    "decode",
    "decode_body",
    "decode_head",
    "encode",
    "head_from_plain",
    "head_to_plain",
    "native_body",
)

# what reads messages, which a process that only sends does not need
_HOME = {
    **dict.fromkeys(
        "BodyDecodeError EnvelopeError ForeignMessage UnacceptedContent WireError".split(), "pyqs_celery.exceptions"
    ),
    "decode_body": "pyqs_celery.wire.body",
    **dict.fromkeys("decode_head head_from_plain head_to_plain".split(), "pyqs_celery.wire.envelope"),
    **dict.fromkeys(("Head", "TaskMessage"), "pyqs_celery.wire.message"),
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        return first_use(globals(), _HOME, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def decode(
    message: Mapping[str, Any],
    *,
    accept_content: Iterable[str] = ("json",),
    pickle_allowed_classes: Sequence[str] | None = None,
    certificates: Iterable[str] | None = None,
    digest: str = "sha256",
) -> TaskMessage:
    """Read one SQS message, as boto3 returns it, into a TaskMessage.

    Raises EnvelopeError, ForeignMessage, UnacceptedContent or BodyDecodeError, all WireErrors, and nothing else
    whatever the input. ``accept_content`` holds serializer names or content types; pickle runs code and is read only
    when named there, limited to ``pickle_allowed_classes`` (globs) when given. ``certificates`` verify signed
    messages, whose signatures are over the ``digest``.
    """
    from pyqs_celery.exceptions import EnvelopeError
    from pyqs_celery.wire.body import decode_body
    from pyqs_celery.wire.envelope import decode_head

    body = message.get("Body") if isinstance(message, Mapping) else None
    if not isinstance(body, str):
        raise EnvelopeError("not an SQS message: it has no Body of text")
    head = decode_head(body)
    return decode_body(
        head,
        accept_content=accept_content,
        pickle_allowed_classes=pickle_allowed_classes,
        certificates=certificates,
        digest=digest,
    )
