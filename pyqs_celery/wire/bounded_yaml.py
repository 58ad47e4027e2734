"""YAML of task bodies: plain values only, as ``yaml.safe_load`` reads them, within bounds that this does not have.

An alias costs three bytes and stands for all that it names, so a kilobyte may stand for gigabytes. Celery's senders write
aliases only for what stands twice in the arguments of one call.
"""

from __future__ import annotations

from functools import cache
from typing import Any

MOST_ALIASES = 10_000
MOST_MERGED = 1_000
"""Pairs that merge keys (``<<``) may bring into mappings of one document; each level may multiply those below it, and no
sender of Celery's writes any."""


def loads(text: str) -> Any:
    """Read one document. Raises ValueError beyond the bounds, and what yaml raises."""
    import yaml

    return yaml.load(text, Loader=_loader())  # noqa: S506 - a SafeLoader


@cache
def _loader() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """A SafeLoader that counts."""

        aliases = 0
        merged = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            """Count aliases."""
            if self.check_event(yaml.AliasEvent):
                self.aliases += 1
                if self.aliases > MOST_ALIASES:
                    raise ValueError("too many aliases")
            return super().compose_node(parent, index)

        def flatten_mapping(self, node: Any) -> None:
            """Count what is merged."""
            before = len(node.value)
            super().flatten_mapping(node)
            self.merged += max(0, len(node.value) - before)
            if self.merged > MOST_MERGED:
                raise ValueError("too much is merged")

    return Loader
