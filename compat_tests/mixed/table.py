"""The table of behaviours: how each is sent, what is looked at, and what real Celery gives on both sides.

A behaviour is a function of an ``Ask``. It returns a result, whose outcome is looked at once everything has been sent; or it
is a generator that yields a result, looks for itself when it is resumed, and yields what it saw.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

OLDEST = (5, 4)
NEWEST = (5, 7)
CHILDREN_IN_TABLES = (5, 7)  # the tables of older versions have no column for them
CHILDREN = re.compile(r"\(.*\)$")
ALL_STORES = ("redis", "dynamodb", "sqlite", "s3")
KINDS = ("plain", "pickle", "packed")


@dataclass(frozen=True)
class Behaviour:
    """``expected``: what Celery gives. ``before``: (first version that gives it, what those before it give, why)."""

    name: str
    run: Callable[[Any], Any]
    expected: dict[str, Any]
    before: tuple[tuple[int, ...], dict[str, Any], str] | None = None
    stores: tuple[str, ...] = ("redis",)
    kinds: tuple[str, ...] = ("plain",)
    since: tuple[int, ...] = (0,)
    first: bool = False
    on_stores: dict[str, dict[str, Any]] = field(default_factory=dict)

    def expects(self, version, store="redis"):
        """What Celery of this version gives with results in this store."""
        expected = self.expected
        if self.before is not None and version < self.before[0]:
            expected = self.before[1]
        expected = {**expected, **self.on_stores.get(store, {})}
        if store == "sqlite" and version < CHILDREN_IN_TABLES and "tree" in expected:
            expected["tree"] = CHILDREN.sub("", expected["tree"])
        return json.loads(json.dumps(expected))

    def accepts(self, version, store="redis"):
        """What a fleet of both may give: our peer does as its version does, we as the newest, and on each store as on Redis."""
        answers = [self.expects(version, store), self.expects(NEWEST, store)]
        return answers if not self.on_stores else [*answers, self.expects(NEWEST)]


BEHAVIOURS: dict[str, Behaviour] = {}


def behaviour(expected, *, name=None, stores=(), **options):
    """Enter a function into the table; ``stores`` are those besides Redis that keep this behaviour."""

    def enter(function):
        known = name or function.__name__.replace("_", "-")
        assert known not in BEHAVIOURS, known
        BEHAVIOURS[known] = Behaviour(known, function, expected, stores=("redis", *stores), **options)
        return function

    return enter


def gives(value, tree, **more):
    return {"value": value, "state": "SUCCESS", "tree": tree, **more}


def raises(error, *args, tree, **more):
    return {"error": error, "args": list(args), "state": "FAILURE", "tree": tree, **more}


def names(*, store="redis", kind="plain", version):
    """The behaviours of a fleet, those to be looked at first in front."""
    chosen = [
        each for each in BEHAVIOURS.values() if store in each.stores and kind in each.kinds and version >= each.since
    ]
    return [each.name for each in sorted(chosen, key=lambda each: not each.first)]


# -- signatures that one side draws up and the other sends -------------------------------------------

DRAWINGS: dict[str, Callable[[Any], Any]] = {}


def drawing(expected, **options):
    """A signature that one side writes as JSON; the other reads it and sends it."""

    def enter(function):
        known = function.__name__.replace("_", "-")
        DRAWINGS[known] = function

        def send(ask):
            return ask.lib.signature(json.loads(ask.drawn[known]), app=ask.app).apply_async()

        behaviour(expected, name=f"drawn-by-the-other-{known}", **options)(send)
        return function

    return enter


def is_two_part(value):
    return isinstance(value, types.GeneratorType)
