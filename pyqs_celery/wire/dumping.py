"""Values become the bytes of a task body or a result."""

from __future__ import annotations

import json
import sys
from typing import Any

from pyqs_celery import exceptions

PICKLE_TYPE = "application/x-python-serialize"


def dumps(value: Any, serializer: str) -> tuple[str, str, bytes]:
    """Serialise a task body: (content type, content encoding, bytes). Raises kombu's EncodeError.

    What plain JSON takes is the same in kombu's, so kombu is imported for other values only. Where a program has imported it,
    it is asked always, since the program may have registered a JSON serializer of its own.
    """
    if serializer in ("pickle", PICKLE_TYPE):
        return PICKLE_TYPE, "binary", _pickled(value)
    if serializer == "json" and "kombu.serialization" not in sys.modules:
        try:
            return "application/json", "utf-8", json.dumps(value).encode("utf-8")
        except Exception:  # noqa: BLE001, S110 - kombu takes more types, and has its own words for what it does not take
            pass
    from kombu import serialization

    content_type, encoding, payload = serialization.dumps(value, serializer=serializer)
    data = payload.encode("utf-8") if isinstance(payload, str) else payload
    return content_type, encoding, data


def _pickled(value: Any) -> bytes:
    from pyqs_celery.wire import pickling

    try:
        return pickling.dumps(value)
    except Exception as exc:  # a reducer of the user's may raise anything
        raise exceptions.EncodeError(f"{type(exc).__name__}: {exc}") from exc
