"""What a behaviour asks through: signatures for the next queue, results turned into plain facts, and the diary."""

from __future__ import annotations

import itertools
import json
import re
import time
from datetime import date
from datetime import time as clock
from decimal import Decimal
from uuid import UUID

from compat_tests.mixed import diary

AN_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
OWN_EXCEPTIONS = frozenset({"builtins", "billiard.exceptions", "celery.exceptions", "pyqs_celery.exceptions"})
OUR_PACKAGES = re.compile(r"^(compat_tests\.mixed|celery|pyqs_celery)\.")
UNFINISHED = re.compile(r":(PENDING|STARTED|RETRY)")
LOOK_EVERY_SECONDS = 0.05
LEAST_SECONDS = 0.5
SETTLING_SECONDS = 15.0


def plain(value):
    """A value as JSON can show it: types that JSON lacks by name, ids without their digits."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, dict):
        return {plain(key) if isinstance(key, str) else repr(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    for kind, show in SHOWN.items():
        if isinstance(value, kind):
            return show(value)
    return repr(value)


def failure(exc):
    """An exception as its class, without the package of Celery's or of ours, and its arguments."""
    module = type(exc).__module__
    name = type(exc).__qualname__
    if module not in OWN_EXCEPTIONS:
        name = f"{OUR_PACKAGES.sub('', module)}.{name}"
    return {
        "error": name,
        "args": [repr(each) if isinstance(each, BaseException) else plain(each) for each in exc.args],
    }


SHOWN = {
    BaseException: failure,
    str: lambda value: AN_ID.sub("<id>", value),
    bytes: lambda value: f"bytes:{value.hex()}",
    (set, frozenset): lambda value: f"set:{sorted(value)}",
    (date, clock): lambda value: f"{type(value).__name__}:{value.isoformat()}",
    (Decimal, UUID): lambda value: f"{type(value).__name__}:{value}",
}


def as_text(result):
    """A result as it would be handed to another process."""
    return json.loads(json.dumps(result.as_tuple()))


class Ask:
    """One behaviour's view of one driver: its library, its application, its queues in turn, its own diary token."""

    def __init__(self, lib, app, token, plan, deadline):
        self.lib = lib
        self.app = app
        self.token = token
        self.drawn = plan.get("drawn", {})
        self.handed_over = {}
        self._deadline = deadline
        self._queues = itertools.cycle(plan["queues"] or [None])

    # -- sending -----------------------------------------------------------------------------------

    def queue(self):
        """The next queue of the fleet; None means that nothing is said and the default is used."""
        return next(self._queues)

    def queues(self, number):
        return [self.queue() for _ in range(number)]

    def to(self):
        queue = self.queue()
        return {"queue": queue} if queue else {}

    def s(self, name, *args, **kwargs):
        return self.app.signature(f"mixed.{name}", args=args, kwargs=kwargs, **self.to())

    def si(self, name, *args, **kwargs):
        return self.app.signature(f"mixed.{name}", args=args, kwargs=kwargs, immutable=True, **self.to())

    def task(self, name):
        return self.app.tasks[f"mixed.{name}"]

    # -- looking -----------------------------------------------------------------------------------

    def seconds(self):
        """How long to wait for one fact: what is left of the driver's time."""
        return max(LEAST_SECONDS, self._deadline - time.monotonic())

    def get(self, result, seconds=None, **options):
        """``{"value": ...}`` or the error that getting the result raises."""
        try:
            return {"value": plain(result.get(timeout=seconds or self.seconds(), **options))}
        except Exception as exc:  # noqa: BLE001 - whatever is raised is what is compared
            return failure(exc)

    def outcome(self, result):
        """What a result gives, its state, and the tree of tasks that it belongs to."""
        found = self.get(result)
        return {**found, "state": self.state(result), "tree": self.tree(result)}

    def state(self, result):
        if hasattr(result, "results"):
            return "SUCCESS" if result.successful() else "FAILURE" if result.failed() else "PENDING"
        return result.state

    def until(self, fact, seconds=None):
        """Look until the fact is true or the time is up; the last look is given."""
        deadline = time.monotonic() + (self.seconds() if seconds is None else seconds)
        while True:
            found = fact()
            if found or time.monotonic() > deadline:
                return found
            time.sleep(LOOK_EVERY_SECONDS)

    def seen(self, event, number=1):
        """What tasks wrote, without token and side."""
        found = diary.wait(self.token, event, number, self.seconds())
        return [
            {key: plain(value) for key, value in entry.items() if key not in {"token", "event", "role"}}
            for entry in found
        ]

    def told(self, event, number=1):
        """Facts that hold ids, untouched."""
        return diary.wait(self.token, event, number, self.seconds())

    def note(self, event):
        diary.write(self.token, event)

    def fresh(self, result):
        """The same result, read from the store again."""
        return self.lib.result.result_from_tuple(as_text(result), app=self.app)

    def top(self, result):
        """The result that a chain of parents begins with."""
        while result.parent is not None:
            result = result.parent
        return result

    def tree(self, result):
        """``add(echo, total!)``: the tasks from the first on, children in parentheses, ``!`` for a failure."""
        deadline = time.monotonic() + min(self.seconds(), SETTLING_SECONDS)
        while True:
            drawn = draw(self.top(self.fresh(result)))
            if not UNFINISHED.search(drawn) or time.monotonic() > deadline:
                return drawn
            time.sleep(LOOK_EVERY_SECONDS)

    def families(self, **steps):
        """Who is whose root, parent and group among the facts that steps wrote: names instead of ids."""
        facts = {step: self.told(step, number) for step, number in steps.items()}
        names = {entry["id"]: step for step, entries in facts.items() for entry in entries}
        groups = list(dict.fromkeys(e["group"] for entries in facts.values() for e in entries if e["group"]))
        return {
            step: sorted(
                f"root={names.get(e['root'], e['root'] and 'other')} parent={names.get(e['parent'], e['parent'] and 'other')}"
                f" group={groups.index(e['group']) if e['group'] else None} index={e['index']}"
                for e in entries
            )
            for step, entries in facts.items()
        }

    def hand_over(self, **facts):
        """Facts for whoever reads this behaviour's results later, from the other side."""
        self.handed_over.update(facts)


def draw(node):
    if hasattr(node, "results"):
        return f"[{', '.join(map(draw_member, node.results))}]"
    state = node.state
    mark = {"SUCCESS": "", "FAILURE": "!"}.get(state, f":{state}")
    children = (node.children or []) if node.ready() else []
    return f"{name_of(node)}{mark}" + (f"({', '.join(map(draw, children))})" if children else "")


def draw_member(node):
    """A member of a group; one that ends a chain or a chord has what came before in front: ``add>[echo, echo]>total``."""
    above, before = node.parent, ""
    while above is not None:
        before = f"{draw(above) if hasattr(above, 'results') else name_of(above)}>{before}"
        above = above.parent
    return before + draw(node)


def name_of(node):
    return (node.name or "?").removeprefix("mixed.").removeprefix("celery.")


def reading(lib, result):
    """All that a reader finds about a result, its parents and its children."""
    if result is None:
        return None
    if hasattr(result, "results"):
        return {
            "group": result.id,
            "ready": result.ready(),
            "successful": result.successful(),
            "failed": result.failed(),
            "completed": result.completed_count(),
            "results": [reading(lib, each) for each in result.results],
            "parent": reading(lib, result.parent),
        }
    return {
        "id": result.id,
        "state": result.state,
        "result": plain(result.result),
        "traceback": result.traceback,
        "date done": str(result.date_done),
        "name": result.name,
        "args": plain(result.args),
        "kwargs": plain(result.kwargs),
        "worker": result.worker,
        "retries": result.retries,
        "queue": result.queue,
        "children": [reading(lib, child) for child in (result.children or [] if result.ready() else [])],
        "parent": reading(lib, result.parent),
    }


def differences(one, other, path=""):
    """Where two readings differ: ``children.0.retries: 1 != 2``."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [*one, *(key for key in other if key not in one)]
        return [each for key in keys for each in differences(one.get(key), other.get(key), f"{path}.{key}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [
            each for n, pair in enumerate(zip(one, other, strict=True)) for each in differences(*pair, f"{path}.{n}")
        ]
    return [] if one == other else [f"{path.lstrip('.')}: {one!r} != {other!r}"]
