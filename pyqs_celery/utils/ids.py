"""Ids of tasks."""

from __future__ import annotations

from uuid import uuid4


def uuid() -> str:
    """A new task id: the text of a random UUID."""
    return str(uuid4())
