"""``python -m compat_tests.mixed.driver celery|ours prepare|draw|send|read``: one side of a fleet, told by JSON on stdin.

``prepare`` makes the tables of a database, ``draw`` writes signatures as JSON, ``send`` sends every behaviour of a plan and
then looks at each, ``read`` only reads the results that somebody else has sent. The answer is JSON on standard output.
"""

from __future__ import annotations

import json
import sys
import time
import traceback

from compat_tests.mixed import calls, canvases, library, tasks  # noqa: F401 - these fill the table
from compat_tests.mixed.asking import Ask, as_text, plain, reading
from compat_tests.mixed.table import BEHAVIOURS, DRAWINGS, is_two_part


class Driver:
    """A plan, the library of a side, and what came of each behaviour."""

    def __init__(self, side, plan):
        self.lib = library.load(side)
        self.app = library.make_app(self.lib, side)
        tasks.declare(self.app, self.lib)
        self.app.set_current()
        self.plan = plan
        self.deadline = time.monotonic() + plan.get("seconds", 40)

    def ask(self, name):
        return Ask(self.lib, self.app, f"{self.plan['label']}/{name}", self.plan, self.deadline)

    def prepare(self):
        """Make what the store makes at its first use: a database's tables."""
        return self.app.AsyncResult("nobody").state

    def draw(self):
        return {name: json.dumps(function(self.ask(name))) for name, function in DRAWINGS.items()}

    def send(self):
        sent = {name: self._send(name) for name in self.plan["behaviours"]}
        return {name: self._look(name, *each) for name, each in sent.items()}

    def _send(self, name):
        ask = self.ask(name)
        try:
            run = BEHAVIOURS[name].run(ask)
            result = next(run) if is_two_part(run) else run
        except Exception:  # noqa: BLE001 - the next behaviour is not to blame
            return ask, None, None, traceback.format_exc()
        return ask, run, result, None

    def _look(self, name, ask, run, result, broken):
        began = time.monotonic()
        answer = None
        if broken is None:
            try:
                answer = next(run) if is_two_part(run) else ask.outcome(result)
            except Exception:  # noqa: BLE001 - as above
                broken = traceback.format_exc()
        if broken is not None:
            answer = {"broken": broken}
        return {
            "answer": plain(answer),
            "result": as_text(result) if result is not None else None,
            "handed over": ask.handed_over,
            "seconds": round(time.monotonic() - began, 2),
        }

    def read(self):
        return {name: self._read(**entry) for name, entry in self.plan["results"].items()}

    def _read(self, result, restore=None):
        try:
            found = reading(self.lib, self.lib.result.result_from_tuple(result, app=self.app))
            if restore:
                restored = self.lib.result.GroupResult.restore(restore, app=self.app)
                return {"result": found, "restored": reading(self.lib, restored)}
        except Exception:  # noqa: BLE001 - as above
            return {"broken": traceback.format_exc()}
        return found


def main(side, what):
    driver = Driver(side, json.load(sys.stdin))
    answer = getattr(driver, what)()
    library.check_apart(side)
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
