"""Nobody but a task's run imports this, so a reader of its failure does not know the class."""

from __future__ import annotations


class ForeignError(Exception):
    """What a library raises that only workers have."""
