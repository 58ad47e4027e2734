"""Ids of tasks."""

from __future__ import annotations

import os


def uuid() -> str:
    """A new task id: the text of a random UUID."""
    text = os.urandom(16).hex()
    variant = "89ab"[int(text[16], 16) & 3]  # RFC 9562: a UUID of version 4; uuid4 takes four times as long to say it
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"


gen_unique_id = uuid
