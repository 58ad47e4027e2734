"""Stamps: headers that a canvas and all its parts carry, set by hand or by a visitor that walks through it.

https://docs.celeryq.dev/en/stable/userguide/canvas.html#stamping
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from pyqs_celery.utils.collections import listed


class StampingVisitor(ABC):
    """Says how each part of a canvas is stamped: every method gives the headers for what it is shown.

    A key ``stamped_headers`` in what it gives names those of the headers that are stamps; without it all are.
    """

    def on_group_start(self, group: Any, **headers: Any) -> dict[str, Any]:
        """Headers for a group and its members."""
        return {}

    def on_group_end(self, group: Any, **headers: Any) -> None:  # noqa: B027 - a hook that need not be there
        """The group's members are stamped."""

    def on_chain_start(self, chain: Any, **headers: Any) -> dict[str, Any]:
        """Headers for a chain and its steps."""
        return {}

    def on_chain_end(self, chain: Any, **headers: Any) -> None:  # noqa: B027 - a hook that need not be there
        """The chain's steps are stamped."""

    @abstractmethod
    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
        """Headers for one call."""

    def on_chord_header_start(self, sig: Any, **header: Any) -> dict[str, Any]:
        """Headers for a chord's members: those of a group, unless you say otherwise."""
        from pyqs_celery.canvas.group import group

        if not isinstance(sig.tasks, group):
            sig.tasks = group(sig.tasks, app=sig._app)
        return self.on_group_start(sig.tasks, **header)

    def on_chord_header_end(self, sig: Any, **header: Any) -> None:
        """The chord's members are stamped."""
        self.on_group_end(sig.tasks, **header)

    def on_chord_body(self, sig: Any, **header: Any) -> dict[str, Any]:
        """Headers for a chord's body."""
        return {}

    def on_callback(self, callback: Any, **header: Any) -> dict[str, Any]:
        """Headers for a callback."""
        return {}

    def on_errback(self, errback: Any, **header: Any) -> dict[str, Any]:
        """Headers for an errback."""
        return {}


def merged(
    sig: Any, said: dict[str, Any] | None, append: bool, headers: Mapping[str, Any], *, own: bool = True
) -> dict[str, Any]:
    """The headers of a signature: those given, what a visitor said, and (``own``) the stamps it has.

    Lists are joined; other values of one stamp gather in a list with ``append``, else the first stays.
    """
    found = dict(headers)
    found.setdefault("stamped_headers", list(headers))
    if said is not None:
        said = dict(said)
        said.setdefault("stamped_headers", list(said))
        _merge(found, said, append)
    if own:
        names = [*found["stamped_headers"], *(sig.options.get("stamped_headers") or ())]
        found["stamped_headers"] = names
        _merge(found, {key: sig.options[key] for key in names if key in sig.options}, append)
    found["stamped_headers"] = sorted(set(found["stamped_headers"]))
    return found


def _merge(into: dict[str, Any], news: Mapping[str, Any], append: bool) -> None:
    for key, value in news.items():
        if key not in into:
            into[key] = value
            continue
        have = into[key]
        if isinstance(have, dict) and isinstance(value, Mapping):
            _merge(have, value, append)
        elif isinstance(have, list) and isinstance(value, list):
            into[key] = [*have, *value]
        elif append:
            first = have if isinstance(have, list) else [] if have is None else [have]
            into[key] = [*first, *(value if isinstance(value, list) else [value])]


def stamp_links(sig: Any, visitor: Any, append: bool, headers: Mapping[str, Any]) -> None:
    """Stamp the callbacks and errbacks of a signature."""
    from pyqs_celery.canvas.signature import maybe_signature

    for option, ask in (("link", "on_callback"), ("link_error", "on_errback")):
        links = [maybe_signature(link, app=sig.app) for link in listed(sig.options.get(option))]
        for link in links:
            given = deepcopy(dict(headers))
            said = getattr(visitor, ask)(link, **given) or {} if visitor is not None else None
            link.stamp(visitor, append, **merged(sig, said, append, given, own=False))
        if links:
            sig.options[option] = links
